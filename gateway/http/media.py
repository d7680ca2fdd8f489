"""Produced pictures, public under `/files/outputs/`."""

import hashlib

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.errors import PlatformError
from gateway.files.base import FILES, Files

PUBLIC = "outputs/"


def media_routes(files: Files) -> list[Route]:
    async def media(request: Request) -> Response:
        key = request.path_params["key"]
        try:
            # what clients sent is theirs alone
            stored = await files.get(key) if key.startswith(PUBLIC) else None
        except ValueError:
            stored = None
        if stored is None:
            raise PlatformError("bad_request", "File not found", status=404)
        name = key.rpartition("/")[2]
        etag = f'"{hashlib.sha256(stored.content).hexdigest()}"'
        headers = {
            "cache-control": "public, max-age=31536000, immutable",
            "content-disposition": f'inline; filename="{name}"',
            "etag": etag,
            "x-content-type-options": "nosniff",
        }
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(stored.content, media_type=stored.content_type, headers=headers)

    return [Route(f"{FILES}{{key:path}}", media, methods=["GET"])]
