"""fal's REST routes for uploads: where to send a file, and with what token (fal-protocol 6.1 to 6.3)."""

from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.errors import PlatformError
from gateway.files.base import FILES
from gateway.http.authentication import caller
from gateway.http.bodies import json_object
from gateway.http.parts import Parts
from gateway.http.surfaces import cdn_root
from gateway.keys.tokens import LONGEST_S, Purpose, Tokens
from gateway.policy import OF_UPLOADS, lifecycle_of
from gateway.settings import GatewaySettings
from gateway.uploads.grants import Grant
from gateway.uploads.uploads import Uploads

MAX_BODY_BYTES = 10_000
MAX_NAME = 1000
UPLOAD = "/upload/"


def storage_routes(parts: Parts, tokens: Tokens, uploads: Uploads) -> list[Route]:
    settings = parts.settings

    async def initiate(request: Request) -> Response:
        return await _initiate(request, multipart=False)

    async def initiate_multipart(request: Request) -> Response:
        return await _initiate(request, multipart=True)

    async def _initiate(request: Request, multipart: bool) -> Response:
        # the query's storage_type names stores of fal's; there is one here
        asked = await json_object(request, MAX_BODY_BYTES)
        content_type, file_name = _text(asked, "content_type"), _text(asked, "file_name")
        grant = granted(request, uploads, settings, content_type, file_name, multipart)
        root = cdn_root(request, settings.public_url)
        # The client sends the content without its key, and puts the numbers of parts between path and query.
        upload_url = f"{root}{UPLOAD}{grant.id}?token={uploads.grants.token(grant)}"
        return JSONResponse({"upload_url": upload_url, "file_url": file_url(root, grant)}, headers=_headers())

    async def token(request: Request) -> Response:
        expires_at = datetime.now(UTC) + timedelta(seconds=LONGEST_S)
        body = {
            "token": tokens.issue(caller(request).key, Purpose.STORAGE, LONGEST_S),
            "token_type": "Bearer",
            "base_url": cdn_root(request, settings.public_url),
            "expires_at": expires_at.isoformat(timespec="seconds"),  # with +00:00: a Z is not read by Python 3.10
        }
        return JSONResponse(body, headers=_headers())

    return [
        Route("/rest/storage/upload/initiate", initiate, methods=["POST"]),
        Route("/rest/storage/upload/initiate-multipart", initiate_multipart, methods=["POST"]),
        Route("/rest/storage/auth/token", token, methods=["POST"]),
    ]


def granted(
    request: Request, uploads: Uploads, settings: GatewaySettings, content_type: str, file_name: str, multipart: bool
) -> Grant:
    """What the caller may upload, under the lifecycle of its headers. content_type, file_name: the client's words."""
    lifecycle = lifecycle_of(request.headers, OF_UPLOADS)
    return uploads.grants.make(
        caller(request).key,
        content_type,
        file_name,
        multipart,
        lifecycle.initial_acl,
        lifecycle.expires_in_s(settings.uploads_expire_s),
    )


def file_url(root: str, grant: Grant) -> str:
    """root: of the CDN, as the client reaches it."""
    return f"{root}{FILES}{grant.key}"


def _text(asked: dict[str, Any], name: str) -> str:
    text = asked.get(name)
    if text is None:
        return ""
    if not isinstance(text, str) or len(text) > MAX_NAME:
        raise PlatformError("bad_request", f"{name} must be a text of at most {MAX_NAME} characters.")
    return text


def _headers() -> dict[str, str]:
    return {"cache-control": "no-store"}
