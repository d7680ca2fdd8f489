"""What a web page may not do to a service on its reader's own machine."""

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import PlatformError
from gateway.http.answers import error_response
from gateway.http.authentication import is_open, reads_a_file
from gateway.http.surfaces import HOSTS
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


class AllowedHosts:
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


class OwnPages:
    """Refuses a page of another origin to make the service do something, where no key would stop it.

    CORS only keeps an answer from a page; the call itself is made all the same.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app, self._origins = app, frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_harmless(scope) and self._is_foreign(Headers(scope=scope)):
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
    return is_open(scope["path"]) or reads_a_file(scope)


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
