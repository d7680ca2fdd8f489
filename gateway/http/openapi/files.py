"""The operations of reading files: what was drawn, and what was uploaded."""

from collections.abc import Mapping
from typing import Any

from gateway.files.store import UNKNOWN_TYPE
from gateway.http.files import SHOWN
from gateway.http.openapi.wording import PIECE, REQUEST_ID_HEADER, STORAGE, answer, object_of, parameter, refusals

_TEXT: Mapping[str, Any] = {"schema": {"type": "string"}}
_ETAG: Mapping[str, Any] = {**REQUEST_ID_HEADER, "etag": {"required": True, **_TEXT}}
_RANGE: Mapping[str, Any] = {"content-range": {"required": True, **_TEXT}}
# whoever has the address, where neither settings nor its lifecycle say otherwise; a key that is given counts
_OPEN_OR_KEY: Mapping[str, Any] = {"security": [{}, {"apiKeyAuth": []}]}


def files_paths() -> dict[str, Any]:
    """Where addresses of files point: each stands in other places too, as under fal's hosts."""
    drawn = parameter("request_id", "path", PIECE, "Of the request that drew it.")
    uploaded = parameter("upload_id", "path", PIECE, "As its address tells.")
    return {
        "/files/outputs/{request_id}/{name}": {"get": _read("file", "A produced picture.", drawn)},
        "/cdn/files/uploads/{upload_id}/{name}": {
            "get": _read("uploaded_file", "An uploaded file.", uploaded),
            "delete": _delete(uploaded),
        },
    }


def _delete(folder: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "operationId": "delete_uploaded_file",
        "summary": "Delete an uploaded file of the caller's own.",
        **STORAGE,
        "parameters": [folder, parameter("name", "path", PIECE, "As its address tells.")],
        "responses": {
            "200": answer("It is gone.", object_of({"deleted": {"type": "boolean", "const": True}})),
            **refusals("400", "401", "403", "404", "500"),
        },
    }


def _read(name: str, summary: str, folder: Mapping[str, Any]) -> dict[str, Any]:
    content = {kind: dict[str, Any]() for kind in (*sorted(SHOWN), UNKNOWN_TYPE)}
    return {
        "operationId": name,
        "summary": summary,
        **_OPEN_OR_KEY,
        "parameters": [
            folder,
            parameter("name", "path", PIECE, "As its address tells."),
            parameter("If-None-Match", "header", {"type": "string"}, "The ETag of a copy."),
            parameter("Range", "header", {"type": "string", "pattern": "^bytes=[0-9]*-[0-9]*$"}, "The bytes wanted."),
        ],
        "responses": {
            "200": {"description": "The file.", "headers": _ETAG, "content": content},
            "206": {"description": "Some bytes of it.", "headers": {**_ETAG, **_RANGE}, "content": content},
            "304": {"description": "The copy is good.", "headers": _ETAG},
            **refusals("400", "401", "403", "404", "416", "500"),
        },
    }
