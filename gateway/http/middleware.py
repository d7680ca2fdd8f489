"""What holds for every call: what a web page may not do, and no more calls at once than leave room for health."""

from collections.abc import Callable, Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import PlatformError
from gateway.http.hosts import HOSTS
from gateway.http.responses import error_response
from gateway.http.routes import called
from gateway.settings import GatewaySettings


def allowed_hosts(settings: GatewaySettings) -> frozenset[str] | None:
    """The names under which the service answers, besides loopback addresses; None for any.

    Without keys a page whose name suddenly resolves to this machine (DNS rebinding) must not be answered, so the names
    are then always listed: this machine's, fal's, the public one and `allowed_hosts`.
    """
    if settings.keys == "required" and not settings.allowed_hosts:
        return None
    names = {"localhost", *HOSTS, *(host.lower() for host in settings.allowed_hosts)}
    if settings.public_url:
        names.add(urlsplit(settings.public_url).hostname or "")
    return frozenset(names)


class TrustedHosts:
    """Refuses a call under a name that is not the service's."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and self._hosts is not None:
            host = _name(Headers(scope=scope).get("host", ""))
            if not (host in self._hosts or _is_loopback(host)):
                text = "The service does not answer under this Host; its operator can add it to allowed_hosts."
                return await error_response(PlatformError("bad_request", text))(scope, receive, send)
        return await self._app(scope, receive, send)


class CsrfGuard:
    """Refuses a page of another origin to make the service do something, where no key would stop it.

    CORS only keeps an answer from a page; the call itself is made all the same.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app, self._origins = app, frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._is_foreign(Headers(scope=scope)) and not _is_harmless(scope):
            text = "A page of this origin may not call the service; its operator can add it to cors_origins."
            return await error_response(PlatformError("forbidden", text, status=403))(scope, receive, send)
        return await self._app(scope, receive, send)

    def _is_foreign(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None:
            # a picture or a link in a page; what is no browser sends nothing
            return headers.get("sec-fetch-site", "none") in ("cross-site", "same-site")
        if origin in self._origins:
            return False
        try:
            return urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
        except ValueError:
            return True


def _is_harmless(scope: Scope) -> bool:
    call = called(scope)
    return call.is_open or call.reads_a_file


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


RESERVED = 50  # of a replica's max_ongoing_requests: for health, and for refusals
LEAST_ONGOING = 2 * RESERVED  # max_ongoing_requests that leave enough to work with
RETRY_AFTER_S = 1


def check_ongoing(max_ongoing_requests: int) -> None:
    """Raises ValueError below `LEAST_ONGOING`."""
    if max_ongoing_requests < LEAST_ONGOING:
        raise ValueError(f"max_ongoing_requests of the Gateway is {max_ongoing_requests}; {LEAST_ONGOING} is the least")


def ordinary_calls(max_ongoing_requests: int) -> int:
    """How many calls a replica may have under way."""
    return max(1, max_ongoing_requests - RESERVED)


class BoundedCalls:
    """Refuses a call at once (503) while too many are under way. `/health` always passes.

    Serve queues what comes above a replica's max_ongoing_requests, health with it. So calls that last (streams, runs,
    bodies) must never take all of these places. `/ready` waits for the ledger and the runner, which may hang: it has a
    half of the reserve.

    max_ongoing_requests: asked at each call, for Serve changes it in place; too few at the start are refused.
    """

    def __init__(self, app: ASGIApp, max_ongoing_requests: Callable[[], int]) -> None:
        self._app, self._under_way, self._ongoing = app, 0, max_ongoing_requests
        check_ongoing(max_ongoing_requests())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/health":
            return await self._app(scope, receive, send)
        most = ordinary_calls(self._ongoing()) + (RESERVED // 2 if scope["path"] == "/ready" else 0)
        if self._under_way >= most:
            full = PlatformError("runner_scheduling_failure", "Too many calls are under way here; try again.")
            return await error_response(full, {"retry-after": str(RETRY_AFTER_S)})(scope, receive, send)
        self._under_way += 1
        try:
            return await self._app(scope, receive, send)
        finally:
            self._under_way -= 1
