"""The routes of the pages and of what they are made of; all are open, for what they show is asked for with a key."""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from gateway.endpoints import ENDPOINTS
from gateway.errors import PlatformError
from gateway.http.parts import Parts
from gateway.http.routes import Route
from gateway.playground.assets import Assets
from gateway.playground.shell import Told, shell

# of pages and assets: nothing comes from elsewhere, nothing that is written in a page runs, and no other page holds it
HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "content-security-policy": "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "cross-origin-opener-policy": "same-origin",
        "permissions-policy": "camera=(self), microphone=(), geolocation=()",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }
)
NO_MORE: Mapping[str, str] = MappingProxyType({})
FOR_EVER = "public, max-age=31536000, immutable"
CHECKED = "no-cache"  # kept, and asked for again by its etag
NAMES: Mapping[str, str] = MappingProxyType({"/requests": "Requests", "/status": "Status"})


class _Page(Route):
    """A page under an address that programs call too: it is for who asks for HTML, as a browser does that opens it."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        wanted = (value for name, value in scope.get("headers", ()) if name == b"accept")
        if any(b"text/html" in value for value in wanted):
            return super().matches(scope)
        return Match.NONE, {}


def playground_routes(parts: Parts) -> list[Route]:
    """First of all routes, for two of the pages share their addresses with routes for programs."""
    assets, settings = Assets.read(), parts.settings
    told = Told(
        assets,
        tuple(ENDPOINTS.values()),
        (settings.public_url or "").rstrip("/"),
        settings.keys == "required",
        parts.family,
    )

    def page(name: str, title: str, endpoint: str = "") -> str:
        return shell(name, title, told, endpoint)

    async def root(request: Request) -> Response:
        return _answer(request, page("playground", "Fooocus Serve"))

    async def model(request: Request) -> Response:
        endpoint_id = request.path_params["endpoint"]
        if endpoint_id not in ENDPOINTS:
            return _answer(request, page("unknown", "No such endpoint · Fooocus Serve"), 404)
        return _answer(request, page("playground", f"{endpoint_id} · Fooocus Serve", endpoint_id))

    async def named(request: Request) -> Response:
        path = request.url.path
        return _answer(request, page(path[1:], f"{NAMES[path]} · Fooocus Serve"))

    async def static(request: Request) -> Response:
        asset = assets.files.get(request.path_params["name"])
        if asset is None:
            raise PlatformError("bad_request", "File not found", status=404)
        # another version is that of a replica that is older or newer: what is here does, but must not be kept as it
        kept = FOR_EVER if request.path_params["version"] == assets.version else CHECKED
        packed = "gzip" in request.headers.get("accept-encoding", "")
        headers = {"content-encoding": "gzip"} if packed else {}
        return _served(request, asset.packed if packed else asset.content, asset.content_type, kept, headers=headers)

    return [
        Route("/", root, methods=["GET"], needs=None),
        Route("/models/{endpoint:path}", model, methods=["GET"], needs=None),
        _Page("/requests", named, methods=["GET"], needs=None),
        _Page("/status", named, methods=["GET"], needs=None),
        Route("/static/{version}/{name:path}", static, methods=["GET"], needs=None),
    ]


def _answer(request: Request, html: str, status: int = 200) -> Response:
    return _served(request, html.encode(), "text/html; charset=utf-8", CHECKED, status)


def _served(
    request: Request,
    content: bytes,
    content_type: str,
    kept: str,
    status: int = 200,
    headers: Mapping[str, str] = NO_MORE,
) -> Response:
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**HEADERS, "cache-control": kept, "etag": etag, "vary": "accept, accept-encoding", **headers}
    copies = [copy.strip().removeprefix("W/") for copy in request.headers.get("if-none-match", "").split(",")]
    if status == 200 and etag in copies:
        return Response(status_code=304, headers=headers)
    return Response(content, status, {**headers, "content-type": content_type})
