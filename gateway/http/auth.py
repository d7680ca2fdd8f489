"""Who calls: by API key or by a short-lived token, told before any route runs."""

from collections.abc import Mapping

from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import PlatformError
from gateway.http.jwks import PATHS
from gateway.http.responses import error_response
from gateway.keys.base import Caller, Key, Keys
from gateway.keys.base import Scope as KeyScope
from gateway.keys.tokens import Purpose, Tokens

OPENAPI = ("/openapi.json", "/api/openapi/queue/openapi.json")  # the second is fal's own path
MODELS = "/api/v1/models"
OPEN_PATHS = frozenset({"/", "/health", "/ready", MODELS, *OPENAPI, *PATHS})
OPEN_PREFIXES = ("/cdn/upload/",)  # an address there is signed, for one file and a short time
# Files may be public, which their route tells: reading one needs no key, and a key that is given counts.
READ_PREFIXES = ("/files/", "/cdn/files/")
READING = frozenset({"GET", "HEAD"})
STORAGE_PREFIXES = ("/rest/storage/", "/cdn/", "/api/v1/storage/")
ADMIN_PREFIX = "/admin/"
TOKEN = "fal_jwt_token"  # noqa: S105 (the name of a query parameter)
_CALLER = "fooocus.caller"
_AS_A_KEY = "send the header 'Authorization: Key <id>:<secret>'"
_ISSUED_AT: Mapping[Purpose, str] = {Purpose.STORAGE: "/rest/storage/auth/token", Purpose.STREAM: "/rest/tokens/"}


def caller(request: Request) -> Caller:
    """Who makes this call; of an open service or an open path, nobody in particular."""
    found: Caller = request.scope.get(_CALLER, Caller())
    return found


def is_open(path: str) -> bool:
    """Whether the (prefixed) path is for everybody."""
    return path in OPEN_PATHS or path.startswith(OPEN_PREFIXES)


def reads_a_file(scope: Scope) -> bool:
    """Whether this call reads a file, which its route opens or not."""
    return scope["method"] in READING and scope["path"].startswith(READ_PREFIXES)


def needed(path: str) -> KeyScope:
    """The scope that a path takes which is not open."""
    if path.startswith(STORAGE_PREFIXES):
        return KeyScope.STORAGE
    return KeyScope.ADMIN if path.startswith(ADMIN_PREFIX) else KeyScope.RUN


class Authenticated:
    """Lets a call pass when it has a key, or a token, for what it asks. Stands behind what rewrites paths."""

    def __init__(self, app: ASGIApp, keys: Keys, tokens: Tokens) -> None:
        self._app, self._keys, self._tokens = app, keys, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_open(scope["path"]):
            return await self._app(scope, receive, send)
        if reads_a_file(scope) and "authorization" not in Headers(scope=scope):
            return await self._app({**scope, _CALLER: Caller(scopes=frozenset())}, receive, send)
        try:
            found = await self._caller(scope)
        except PlatformError as refused:
            headers = {"www-authenticate": "Key"} if refused.status == 401 else {}
            return await error_response(refused, headers)(scope, receive, send)
        return await self._app({**scope, _CALLER: found}, receive, send)

    async def _caller(self, scope: Scope) -> Caller:
        path: str = scope["path"]
        scheme, _, credentials = Headers(scope=scope).get("authorization", "").strip().partition(" ")
        credentials = credentials.strip()
        if scheme.lower() == "bearer":
            return await self._by_token(credentials, Purpose.STORAGE, path)
        if scheme.lower() == "key":
            key = await self._keys.check(credentials)
            if key is None:
                raise _unauthorized(
                    f"The API key is not valid. It is unknown, revoked or expired; {_AS_A_KEY} with another."
                )
            found = _as_caller(key)
            if not reads_a_file(scope) and not found.may(needed(path)):
                raise _forbidden(f"The API key lacks the scope '{needed(path)}'.")
            return found
        token = QueryParams(scope["query_string"]).get(TOKEN)
        if not scheme and token:
            return await self._by_token(token, Purpose.STREAM, path)
        raise _unauthorized(f"Authentication is required: {_AS_A_KEY}.")

    async def _by_token(self, text: str, purpose: Purpose, path: str) -> Caller:
        token = self._tokens.read(text, purpose)
        key = None if token is None else await self._keys.find(token.key)
        if token is None or key is None:
            if ":" in text:  # a key's form; no token has a colon
                raise _unauthorized(f"An API key is sent as a key, not as a bearer token: {_AS_A_KEY}.")
            taken = purpose is Purpose.STREAM or path.startswith("/cdn/")  # elsewhere a new one would not do either
            new = f"ask for a new one at {_ISSUED_AT[purpose]}, or " if taken else ""
            raise _unauthorized(f"The token is not valid or has expired; {new}{_AS_A_KEY}.")
        if purpose is Purpose.STORAGE and path.startswith("/cdn/"):
            return _as_caller(key)
        if purpose is Purpose.STREAM and _streamed_app(path) in token.apps:
            return _as_caller(key)
        raise _forbidden("The token is for something else.")


def _streamed_app(path: str) -> str | None:
    """The second id segment of the endpoint whose stream this is."""
    parts = path.rstrip("/").split("/")
    return parts[3] if len(parts) > 4 and parts[1] == "run" and parts[-1] == "stream" else None


def _as_caller(key: Key) -> Caller:
    return Caller(key.id, key.scopes, key.limits)


def _unauthorized(detail: str) -> PlatformError:
    return PlatformError("unauthorized", detail, status=401)


def _forbidden(detail: str) -> PlatformError:
    return PlatformError("forbidden", detail, status=403)
