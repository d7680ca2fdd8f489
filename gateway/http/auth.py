"""Who calls: by API key or by a short-lived token, told before any route runs."""

from collections.abc import Mapping

from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import PlatformError
from gateway.http.responses import error_response
from gateway.http.routes import Called, called
from gateway.keys.base import Caller, Key, Keys
from gateway.keys.base import Scope as KeyScope
from gateway.keys.tokens import Purpose, Tokens

TOKEN = "fal_jwt_token"  # noqa: S105 (the name of a query parameter)
_CALLER = "fooocus.caller"
_ISSUED_AT: Mapping[Purpose, str] = {Purpose.STORAGE: "/rest/storage/auth/token", Purpose.STREAM: "/rest/tokens/"}


def caller(request: Request) -> Caller:
    """Who makes this call; of an open service or an open path, nobody in particular."""
    found: Caller = request.scope.get(_CALLER, Caller())
    return found


def owner(request: Request) -> str | None:
    """Whose requests the caller may name: its key's; all where the service is open, or with an admin's key."""
    who = caller(request)
    return None if who.may(KeyScope.ADMIN) else who.key


class Authenticated:
    """Lets a call pass when it has a key, or a token, for what it asks. Stands behind what rewrites paths."""

    def __init__(self, app: ASGIApp, keys: Keys, tokens: Tokens) -> None:
        self._app, self._keys, self._tokens = app, keys, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (call := called(scope)).is_open:
            return await self._app(scope, receive, send)
        if call.reads_a_file and "authorization" not in Headers(scope=scope):
            return await self._app({**scope, _CALLER: Caller(scopes=frozenset())}, receive, send)
        try:
            found = await self._caller(scope, call)
        except PlatformError as refused:
            headers = {"www-authenticate": _scheme_of(call)} if refused.status == 401 else {}
            return await error_response(refused, headers)(scope, receive, send)
        return await self._app({**scope, _CALLER: found}, receive, send)

    async def _caller(self, scope: Scope, call: Called) -> Caller:
        scheme, _, credentials = Headers(scope=scope).get("authorization", "").strip().partition(" ")
        credentials = credentials.strip()
        if scheme.lower() == "bearer" and not call.takes_bearers:
            return await self._by_token(credentials, Purpose.STORAGE, call)
        if scheme.lower() in ("key", "bearer"):
            key = await self._keys.check(credentials)
            if key is None:
                raise _unauthorized(
                    f"The API key is not valid. It is unknown, revoked or expired; {_as_a_key(call)} with another."
                )
            found = _as_caller(key)
            needs = None if call.route is None or call.reads_a_file else call.route.needs
            if needs is not None and not found.may(needs):
                raise _forbidden(f"The API key lacks the scope '{needs}'.")
            return found
        token = QueryParams(scope["query_string"]).get(TOKEN)
        if not scheme and token:
            return await self._by_token(token, Purpose.STREAM, call)
        raise _unauthorized(f"Authentication is required: {_as_a_key(call)}.")

    async def _by_token(self, text: str, purpose: Purpose, call: Called) -> Caller:
        token = self._tokens.read(text, purpose)
        key = None if token is None else await self._keys.find(token.key)
        taken = call.route is not None and call.route.token is purpose
        if token is None or key is None:
            if ":" in text:  # a key's form; no token has a colon
                raise _unauthorized(f"An API key is sent as a key, not as a bearer token: {_as_a_key(call)}.")
            new = f"ask for a new one at {_ISSUED_AT[purpose]}, or " if taken else ""  # elsewhere none would do
            raise _unauthorized(f"The token is not valid or has expired; {new}{_as_a_key(call)}.")
        if taken and (purpose is not Purpose.STREAM or _app(call) in token.apps):
            return _as_caller(key)
        raise _forbidden("The token is for something else.")


def _scheme_of(call: Called) -> str:
    return "Bearer" if call.takes_bearers else "Key"


def _as_a_key(call: Called) -> str:
    return f"send the header 'Authorization: {_scheme_of(call)} <id>:<secret>'"


def _app(call: Called) -> str:
    """The second id segment of the endpoint that is called."""
    endpoint: str = call.path_params["endpoint"]
    return endpoint.partition("/")[2].partition("/")[0]


def _as_caller(key: Key) -> Caller:
    return Caller(key.id, key.scopes, key.limits)


def _unauthorized(detail: str) -> PlatformError:
    return PlatformError("unauthorized", detail, status=401)


def _forbidden(detail: str) -> PlatformError:
    return PlatformError("forbidden", detail, status=403)
