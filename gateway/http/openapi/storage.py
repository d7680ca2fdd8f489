"""The operations of uploading: fal's REST routes, and the CDN as clients send files to it."""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.files.uploads import MAX_PARTS
from gateway.http.openapi.wording import (
    OPEN,
    PIECE,
    REQUEST_ID_HEADER,
    STORAGE,
    answer,
    json_of,
    lifecycle_parameters,
    object_of,
    parameter,
    ref,
    refusals,
)
from gateway.http.storage import MAX_NAME
from gateway.policy import OF_UPLOADS

_TEXT: Mapping[str, Any] = {"type": "string"}
_NAME: Mapping[str, Any] = {"type": "string", "maxLength": MAX_NAME}
_URL: Mapping[str, Any] = {"type": "string", "format": "uri"}
_NUMBER: Mapping[str, Any] = {"type": "integer", "minimum": 1, "maximum": MAX_PARTS}
_CONTENT: Mapping[str, Any] = {
    "required": False,
    "description": "The bytes, under any content type: the service tells it by them.",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}
_REST = ("400", "401", "403", "413", "500")


def storage_paths() -> dict[str, Any]:
    signed = "/cdn/upload/{upload_id}"
    begun = "/cdn/files/uploads/{upload_id}/{name}/multipart/{token}"
    return {
        "/rest/storage/upload/initiate": {"post": _initiate("initiate_upload", "A signed address for a file.")},
        "/rest/storage/upload/initiate-multipart": {
            "post": _initiate("initiate_multipart_upload", "A signed address for a file that comes in parts.")
        },
        "/rest/storage/auth/token": {"post": _token()},
        signed: {"put": _whole()},
        f"{signed}/{{number}}": {"put": _part("upload_part", _signed(), OPEN)},
        f"{signed}/complete": {"post": _complete("complete_upload", _signed(), OPEN)},
        "/cdn/files/upload": {"post": _upload()},
        "/cdn/files/upload/multipart": {"post": _begin()},
        f"{begun}/{{number}}": {"put": _part("upload_part_to_cdn", _begun(), STORAGE)},
        f"{begun}/complete": {"post": _complete("complete_upload_to_cdn", _begun(), STORAGE)},
    }


def storage_shapes() -> dict[str, Any]:
    """Schemas by name."""
    return {
        "UploadRequest": object_of({"content_type": _NAME, "file_name": _NAME}, optional=("content_type", "file_name")),
        "UploadAddress": object_of(
            {"upload_url": {**_URL, "description": "Where the content goes, without a key."}, "file_url": _URL}
        ),
        "StorageToken": object_of(
            {
                "token": _TEXT,
                "token_type": {"type": "string", "const": "Bearer"},
                "base_url": _URL,
                "expires_at": {"type": "string", "format": "date-time"},
            }
        ),
        "UploadedPart": object_of({"partNumber": _NUMBER, "etag": _TEXT}),
        "UploadedParts": object_of({"parts": {"type": "array", "maxItems": MAX_PARTS, "items": ref("UploadedPart")}}),
    }


def _initiate(name: str, summary: str) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "parameters": [
            parameter("storage_type", "query", _TEXT, "Names a store of fal's; here there is one."),
            *_lifecycle(),
        ],
        "requestBody": {"required": False, "content": json_of(ref("UploadRequest"))},
        "responses": {"200": answer("The addresses.", ref("UploadAddress")), **refusals(*_REST)},
    }


def _token() -> dict[str, Any]:
    return {
        "operationId": "storage_token",
        "summary": "A short-lived token for uploads to the CDN.",
        "responses": {
            "200": answer("The token.", ref("StorageToken")),
            **refusals("400", "401", "403", "500"),
        },
    }


def _whole() -> dict[str, Any]:
    return {
        "operationId": "upload_content",
        "summary": "The content of a file, at its signed address.",
        **OPEN,
        "parameters": _signed(),
        "requestBody": dict(_CONTENT),
        "responses": {
            "200": answer("The file is there.", object_of({"file_url": _URL})),
            **refusals("400", "403", "409", "413", "500"),
        },
    }


def _upload() -> dict[str, Any]:
    return {
        "operationId": "upload_to_cdn",
        "summary": "A file in one call.",
        **STORAGE,
        "parameters": [_file_name(), *_lifecycle()],
        "requestBody": dict(_CONTENT),
        "responses": {"200": answer("The file is there.", object_of({"access_url": _URL})), **refusals(*_REST)},
    }


def _begin() -> dict[str, Any]:
    return {
        "operationId": "begin_upload_to_cdn",
        "summary": "Begin a file that comes in parts.",
        **STORAGE,
        "parameters": [_file_name(), *_lifecycle()],
        "responses": {
            "200": answer("Parts go below this address.", object_of({"access_url": _URL, "uploadId": _TEXT})),
            **refusals("400", "401", "403", "500"),
        },
    }


def _part(name: str, parameters: Sequence[Mapping[str, Any]], security: Mapping[str, Any]) -> dict[str, Any]:
    headers = {**REQUEST_ID_HEADER, "etag": {"required": True, "schema": _TEXT}}
    return {
        "operationId": name,
        "summary": "One part of a file; the same number again replaces it.",
        **security,
        "parameters": [*parameters, parameter("number", "path", _NUMBER, "Of the part.")],
        "requestBody": {**_CONTENT, "required": True},
        "responses": {
            "200": answer("The part is there.", ref("UploadedPart"), headers),
            **refusals(*_REST, "429"),
        },
    }


def _complete(name: str, parameters: Sequence[Mapping[str, Any]], security: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": "Join the parts, all of which must be listed.",
        **security,
        "parameters": [*parameters],
        "requestBody": {"required": True, "content": json_of(ref("UploadedParts"))},
        "responses": {
            "200": answer("The file is there.", object_of({"access_url": _URL, "file_url": _URL})),
            **refusals(*_REST),
        },
    }


def _signed() -> list[dict[str, Any]]:
    return [
        parameter("upload_id", "path", PIECE, "As the signed address has it."),
        parameter("token", "query", _TEXT, "As the signed address has it.", required=True),
    ]


def _begun() -> list[dict[str, Any]]:
    return [
        parameter("upload_id", "path", PIECE, "As access_url has it."),
        parameter("name", "path", PIECE, "As access_url has it."),
        parameter("token", "path", PIECE, "The uploadId."),
    ]


def _file_name() -> dict[str, Any]:
    return parameter("X-Fal-File-Name", "header", _TEXT, "The client's name of it, which a download gets.")


def _lifecycle() -> list[dict[str, Any]]:
    return lifecycle_parameters(OF_UPLOADS, "How long the file is kept, and who may read it; the first header counts.")
