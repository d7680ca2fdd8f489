"""The operations that are not an endpoint's: history, uploads, files, fal's platform, and the service about itself."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from gateway.files.store import UNKNOWN_TYPE
from gateway.files.uploads import MAX_PARTS
from gateway.http import bodies
from gateway.http.files import SHOWN
from gateway.http.history import OUTCOMES, STATES, USUAL
from gateway.http.hosts import HOSTS
from gateway.http.openapi.parts import (
    OPEN,
    PIECE,
    REQUEST_ID_HEADER,
    STORAGE,
    answer,
    lifecycle_parameters,
    operation,
    parameter,
    ref,
    request_named,
)
from gateway.http.platform_files import MAX_URL
from gateway.policy import OF_UPLOADS
from gateway.webhooks.signing import KeySet

EXPANSION = "openapi-3.0"
EXPANSIONS = (EXPANSION, "enterprise_status")
STATUSES = get_args(bodies.ModelStatus)
MOST_IDS = 50  # that are asked for at once
LINKS: Mapping[str, str] = {"show": "show_request", "delete": "delete_request"}  # from a submit

_TEXT: Mapping[str, Any] = {"type": "string"}
_CONTENT: Mapping[str, Any] = {
    "required": False,
    "description": "The bytes, under any content type: the service tells it by them.",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}
_ETAG: Mapping[str, Any] = {"etag": {"required": True, "schema": _TEXT}}
# whoever has the address, where neither settings nor its lifecycle say otherwise; a key that is given counts
_OPEN_OR_KEY: Mapping[str, Any] = {"security": [{}, {"apiKeyAuth": []}]}


def paths_of(endpoint_ids: Sequence[str]) -> dict[str, Any]:
    """Without the second forms of routes, which stand in other places too, as under fal's hosts."""
    return {
        **_history(endpoint_ids),
        **_rest(),
        **_signed_uploads(),
        **_cdn(),
        **_files(),
        **_own(endpoint_ids),
        **_platform(endpoint_ids),
    }


def _history(endpoint_ids: Sequence[str]) -> dict[str, Any]:
    limit = {"type": "integer", "minimum": 1, "maximum": bodies.MOST_LISTED, "default": USUAL}
    asked = [
        parameter("endpoint_id", "query", {**_TEXT, "examples": [*endpoint_ids]}, "Only those of one endpoint."),
        parameter("status", "query", {**_TEXT, "enum": [*STATES]}, "Only those that are there."),
        parameter("outcome", "query", {**_TEXT, "enum": [*OUTCOMES]}, "Only those that ended so."),
        parameter("key", "query", _TEXT, "The id of a key, or `all`. Another than one's own takes an admin."),
        parameter("cursor", "query", {**_TEXT, "pattern": "^[0-9]{1,18}$"}, "From the page before."),
        parameter("limit", "query", limit, "Of a page."),
    ]
    listed = "The requests that were made, newest first."
    shown = "One request with its input, output and log."
    gone = "Delete a request that has ended, with its files; 400 before."
    one: dict[str, Any] = {"parameters": [request_named()], "refused": ["404"]}
    return {
        "/requests": {"get": operation("list_requests", listed, bodies.HistoryPage, parameters=asked)},
        "/requests/{request_id}": {
            "get": operation(LINKS["show"], shown, bodies.HistoryRecord, **one),
            "delete": operation(LINKS["delete"], gone, bodies.Deletion, **one),
        },
    }


def _rest() -> dict[str, Any]:
    store = parameter("storage_type", "query", _TEXT, "Names a store of fal's; here there is one.")
    initiate: dict[str, Any] = {"parameters": [store, *_lifecycle()], "body": bodies.UploadRequest}
    whole, parts = "A signed address for a file.", "A signed address for a file that comes in parts."
    storage_token = "A short-lived token for uploads to the CDN."  # noqa: S105
    token = "A short-lived token with which a browser streams."  # noqa: S105
    issued = {"200": answer("The token, as fal_jwt_token.", _TEXT)}
    return {
        "/rest/storage/upload/initiate": {
            "post": operation("initiate_upload", whole, bodies.UploadAddress, **initiate)
        },
        "/rest/storage/upload/initiate-multipart": {
            "post": operation("initiate_multipart_upload", parts, bodies.UploadAddress, **initiate)
        },
        "/rest/storage/auth/token": {"post": operation("storage_token", storage_token, bodies.StorageToken)},
        "/rest/tokens/": {"post": operation("token", token, issued, body=bodies.TokenRequest)},
    }


def _signed_uploads() -> dict[str, Any]:
    signed = "/cdn/upload/{upload_id}"
    named = [
        parameter("upload_id", "path", PIECE, "As the signed address has it."),
        parameter("token", "query", _TEXT, "As the signed address has it.", required=True),
    ]
    whole = "The content of a file, at its signed address."
    once: dict[str, Any] = {"body": _CONTENT, "security": OPEN, "refused": ["403", "409"]}
    return {
        signed: {"put": operation("upload_content", whole, bodies.FileUrl, parameters=named, **once)},
        **_in_parts(signed, "", named, OPEN),
    }


def _cdn() -> dict[str, Any]:
    begun = "/cdn/files/uploads/{upload_id}/{name}/multipart/{token}"
    file_name = parameter("X-Fal-File-Name", "header", _TEXT, "The client's name of it, which a download gets.")
    new: dict[str, Any] = {"parameters": [file_name, *_lifecycle()], "security": STORAGE}
    named = [
        parameter("upload_id", "path", PIECE, "As access_url has it."),
        parameter("name", "path", PIECE, "As access_url has it."),
        parameter("token", "path", PIECE, "The uploadId."),
    ]
    begin = "Begin a file that comes in parts, which go below the address."
    return {
        "/cdn/files/upload": {
            "post": operation("upload_to_cdn", "A file in one call.", bodies.AccessUrl, body=_CONTENT, **new)
        },
        "/cdn/files/upload/multipart": {"post": operation("begin_upload_to_cdn", begin, bodies.BegunUpload, **new)},
        **_in_parts(begun, "_to_cdn", named, STORAGE),
    }


def _in_parts(
    path: str, suffix: str, named: Sequence[Mapping[str, Any]], security: Mapping[str, Any]
) -> dict[str, Any]:
    part = "One part of a file; the same number again replaces it."
    complete = "Join the parts, all of which must be listed."
    number = {"type": "integer", "minimum": 1, "maximum": MAX_PARTS}
    stored = {"200": answer("The part is there.", ref(bodies.UploadedPart), _ETAG)}
    return {
        f"{path}/{{number}}": {
            "put": operation(
                f"upload_part{suffix}",
                part,
                stored,
                parameters=[*named, parameter("number", "path", number, "Of the part.")],
                body={**_CONTENT, "required": True},
                security=security,
                refused=["403", "429"],
            )
        },
        f"{path}/complete": {
            "post": operation(
                f"complete_upload{suffix}",
                complete,
                bodies.CompletedUpload,
                parameters=named,
                body=bodies.UploadedParts,
                security=security,
                refused=["403"],
            )
        },
    }


def _files() -> dict[str, Any]:
    drawn = parameter("request_id", "path", PIECE, "Of the request that drew it.")
    uploaded = parameter("upload_id", "path", PIECE, "As its address tells.")
    name = parameter("name", "path", PIECE, "As its address tells.")
    gone: dict[str, Any] = {"parameters": [uploaded, name], "security": STORAGE, "refused": ["404"]}
    delete = "Delete an uploaded file of the caller's own."
    copy = parameter("If-None-Match", "header", _TEXT, "The ETag of a copy.")
    pieces = parameter("Range", "header", {**_TEXT, "pattern": "^bytes=[0-9]*-[0-9]*$"}, "The bytes wanted.")
    headers = {**REQUEST_ID_HEADER, **_ETAG}
    some = {**headers, "content-range": {"required": True, "schema": _TEXT}}
    content = {kind: dict[str, Any]() for kind in (*sorted(SHOWN), UNKNOWN_TYPE)}
    answers = {
        "200": {"description": "The file.", "headers": headers, "content": content},
        "206": {"description": "Some bytes of it.", "headers": some, "content": content},
        "304": {"description": "The copy is good.", "headers": headers},
    }
    read: dict[str, Any] = {"security": _OPEN_OR_KEY, "refused": ["404", "416"]}
    return {
        "/files/outputs/{request_id}/{name}": {
            "get": operation("file", "A produced picture.", answers, parameters=[drawn, name, copy, pieces], **read)
        },
        "/cdn/files/uploads/{upload_id}/{name}": {
            "get": operation(
                "uploaded_file", "An uploaded file.", answers, parameters=[uploaded, name, copy, pieces], **read
            ),
            "delete": operation("delete_uploaded_file", delete, bodies.FileDeletion, **gone),
        },
    }


def _own(endpoint_ids: Sequence[str]) -> dict[str, Any]:
    wanted = parameter(
        "endpoint_id", "query", {**_TEXT, "enum": [*endpoint_ids]}, "One endpoint's document, as fal has it."
    )
    document = {"type": "object", "required": ["openapi", "info", "paths"]}
    described: dict[str, Any] = {"parameters": [wanted], "security": OPEN, "refused": ["404"]}
    this = "This document, or that of one endpoint."
    keys = "The public keys of webhooks."
    status = "What runs here and how it goes, for whoever operates it: where keys are required, with the scope admin."
    return {
        "/health": {"get": operation("health", "Whether the process lives.", bodies.Health, security=OPEN)},
        "/ready": {
            "get": operation("ready", "Whether requests are drawn.", bodies.Readiness, security=OPEN, refused=["503"])
        },
        "/status": {"get": operation("service_status", status, bodies.ServiceStatus)},
        "/openapi.json": {
            "get": operation("openapi", this, {"200": answer("An OpenAPI document.", document)}, **described)
        },
        "/.well-known/jwks.json": {"get": operation("key_set", keys, KeySet, security=OPEN)},
        "/rest/.well-known/jwks.json": {"get": operation("key_set_of_rest", "The same.", KeySet, security=OPEN)},
        "/api/fal/proxy": {method: _proxied(method) for method in ("get", "post", "put")},
    }


def _proxied(method: str) -> dict[str, Any]:
    pattern = f"^https://({'|'.join(map(re.escape, HOSTS))})/[A-Za-z0-9/._-]*$"
    target = parameter(
        "X-Fal-Target-Url", "header", {**_TEXT, "pattern": pattern}, "An address of one of fal's hosts.", required=True
    )
    other = {"description": "The answer of the route that the address names.", "headers": REQUEST_ID_HEADER}
    what = "What an address of fal's means here; nothing is forwarded."
    return operation(f"proxy_{method}", what, {"default": other}, parameters=[target])


def _platform(endpoint_ids: Sequence[str]) -> dict[str, Any]:
    ids = {"type": "array", "maxItems": MOST_IDS, "items": {**_TEXT, "enum": [*endpoint_ids]}}
    limit = {"type": "integer", "minimum": 1, "maximum": 99_999_999, "default": len(endpoint_ids)}
    search = [
        parameter("endpoint_id", "query", ids, "Only these."),
        parameter("q", "query", _TEXT, "Only those that have all of these words."),
        parameter("category", "query", _TEXT, "Such as text-to-image."),
        parameter("status", "query", {**_TEXT, "enum": [*STATUSES]}, "All are active."),
        parameter("expand", "query", {"type": "array", "items": {"enum": [*EXPANSIONS]}}, "What to add to each."),
        parameter("limit", "query", limit, "Of a page."),
        parameter("cursor", "query", {**_TEXT, "pattern": "^[0-9]{1,8}$"}, "From the page before."),
    ]
    address = {**_TEXT, "format": "uri", "minLength": 1, "maxLength": MAX_URL}
    about = "The address of a file of this service, without a query."
    fault: dict[str, Any] = {"refused": ["404"], "fault": bodies.PlatformFault}
    file: dict[str, Any] = {"parameters": [parameter("url", "query", address, about, required=True)], **fault}
    models = "The endpoints, as fal's platform lists its models."
    sign = "An address that opens one of the caller's own files to whoever has it, for a time."
    replace = "Replace who may read one of the caller's own files; rules of unknown keys are dropped."
    files = "/api/v1/storage/files"
    return {
        "/api/v1/models": {
            "get": operation(
                "platform_models", models, bodies.PlatformModels, parameters=search, security=OPEN, **fault
            )
        },
        f"{files}/sign": {"post": operation("sign_file", sign, bodies.SignedAddress, body=bodies.Signing, **file)},
        f"{files}/acl": {
            "get": operation("file_acl", "Who may read one of the caller's own files.", bodies.FileAcl, **file),
            "put": operation("replace_file_acl", replace, bodies.FileAcl, body=bodies.NewFileAcl, **file),
        },
    }


def _lifecycle() -> list[dict[str, Any]]:
    return lifecycle_parameters(OF_UPLOADS, "How long the file is kept, and who may read it; the first header counts.")
