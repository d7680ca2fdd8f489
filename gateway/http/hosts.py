"""Which of fal's hosts a request means, told by prefix, Host header or proxied address; all become prefixes."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import SplitResult, unquote, urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import PlatformError
from gateway.files.base import FILES
from gateway.http.responses import error_response

# fal's hosts (fal-protocol 1.1) and the prefix under which each one's routes stand here
HOSTS: Mapping[str, str] = MappingProxyType(
    {
        "fal.run": "/run",
        "queue.fal.run": "/queue",
        "falrun.com": "/run",
        "queue.falrun.com": "/queue",
        "rest.fal.ai": "/rest",
        "rest.alpha.fal.ai": "/rest",
        "v3.fal.media": "/cdn",
        "api.fal.ai": "/api",
    }
)
OPENAI = "/openai/"
MCP = "/mcp"
PREFIXES = ("/run/", "/queue/", "/rest/", "/cdn/", "/api/v1/", OPENAI)
OWN = ("/health", "/ready", "/openapi.json", MCP, "/")
OUTPUTS = f"{FILES}outputs/"
PROXY = "/api/fal/proxy"
PROXY_METHODS = frozenset({"GET", "POST", "PUT"})
CDN_HOST = "v3.fal.media"
QUEUE_HOST = "queue.fal.run"
BARE = "/fal-ai/"  # an endpoint id as a path is a sync run

_SLASHES = re.compile("/+")
_HOST = re.compile(r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")


class HostRouter:
    """Rewrites the path of each request to its prefixed form and notes under which root its queue routes stand.

    Raises nothing and redirects nothing: a proxied address of a host that is not fal's is refused, never fetched.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        try:
            inside = _inside(scope)
        except PlatformError as refused:
            return await error_response(refused)(scope, receive, send)
        return await self._app(inside, receive, send)


def origin(request: Request, public_url: str | None) -> str:
    """Scheme, host and port under which the client reaches us.

    fal's hosts are those of the Host header where they can be meant: behind TLS, or with the port that the call came
    to. A header alone does not make a host: then it is the address that the call came to.
    """
    if public_url:
        return public_url.rstrip("/")
    if (reached := _reached(request)) is not None:
        return reached
    return f"{_scheme(request)}://{request.url.netloc}"


def queue_root(request: Request, public_url: str | None) -> str:
    """Where the queue's routes stand for this client; a fal host has no prefix."""
    root: str = "/queue" if public_url or _reached(request) else request.scope["queue_root"]
    return origin(request, public_url) + root


def public_queue_root(request: Request, public_url: str | None) -> str:
    """`queue_root` for a client that came by another one of fal's hosts: the queue's own."""
    if public_url or _reached(request) or request.scope["queue_root"]:
        return queue_root(request, public_url)
    return _on(QUEUE_HOST, request)


def cdn_root(request: Request, public_url: str | None) -> str:
    """Where the routes of the CDN stand for this client: a prefix, or fal's host for one that came by fal's hosts."""
    if public_url or _reached(request) or request.scope["queue_root"]:
        return origin(request, public_url) + "/cdn"
    return _on(CDN_HOST, request)


def _on(host: str, request: Request) -> str:
    port = f":{request.url.port}" if request.url.port else ""
    return f"{_scheme(request)}://{host}{port}"


def _scheme(request: Request) -> str:
    # one of fal's hosts is itself behind TLS, whoever ends that in front of us; for another it is the server's to say
    ended = request.headers.get("x-forwarded-proto", "").lower() == "https"
    return "https" if ended and request.url.hostname in HOSTS else request.url.scheme


def _reached(request: Request) -> str | None:
    """The address that a call came to in plain HTTP under one of fal's names, which do not lead there by themselves."""
    server = request.scope.get("server")
    if request.url.hostname not in HOSTS or _scheme(request) != "http" or not server or server[1] is None:
        return None
    host, port = server
    if (request.url.port or 80) == port:  # the name leads here
        return None
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _inside(scope: Scope) -> Scope:
    path = _normal(scope["path"])
    if path != scope["path"]:
        scope = {**scope, "path": path, "raw_path": path.encode()}
    host = Headers(scope=scope).get("host", "")
    if host and _HOST.fullmatch(host) is None:
        raise PlatformError("bad_request", "The Host header is malformed.")
    if path == PROXY:
        target = _target(scope)
        return _rewritten(scope, HOSTS[target.hostname or ""], target.path, target.query.encode())
    if path.startswith((*PREFIXES, OUTPUTS)) or path in OWN:
        return {**scope, "queue_root": "/queue"}
    if prefix := HOSTS.get(host.partition(":")[0].lower()):
        return {**_rewritten(scope, prefix, path, scope["query_string"]), "queue_root": ""}
    if path.startswith(BARE):
        return _rewritten(scope, "/run", path, scope["query_string"])
    return {**scope, "queue_root": "/queue"}


def _normal(path: str) -> str:
    """Slashes that were joined too many, or stand at the end, mean nothing; a redirect would break clients."""
    return _SLASHES.sub("/", path).rstrip("/") or "/"


def _rewritten(scope: Scope, prefix: str, path: str, query: bytes) -> Scope:
    inside = prefix + _normal(unquote(path))
    return {**scope, "path": inside, "raw_path": inside.encode(), "query_string": query, "queue_root": "/queue"}


def _target(scope: Scope) -> SplitResult:
    if scope["method"] not in PROXY_METHODS:
        raise PlatformError("bad_request", "The proxy route takes GET, POST and PUT.", status=405)
    try:
        target = urlsplit(Headers(scope=scope).get("x-fal-target-url", ""))
    except ValueError:
        raise PlatformError("bad_request", "The header x-fal-target-url is no URL.") from None
    if target.scheme not in ("http", "https") or target.hostname not in HOSTS:
        raise PlatformError("bad_request", "The header x-fal-target-url must name one of fal's hosts.")
    return target
