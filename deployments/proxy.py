"""What Serve's proxies say where no gateway answers. Each node's environment names it, before its Ray starts."""

from collections.abc import Mapping
from types import MappingProxyType

from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import PlatformError

ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": f"{__name__}:middlewares"}
)
ROUTES_OF_SERVE = "/-/"  # which load balancers ask
UNAVAILABLE = 503
_OURS = b"x-fal-request-id"  # which every answer of a gateway has


def middlewares() -> list[Middleware]:
    """Serve calls it when a proxy starts."""
    return [Middleware(AnswersForTheLost)]


class AnswersForTheLost:
    """Tells who called a gateway that was lost before it answered, or called while there is none, to try again.

    Serve itself says nothing to the one, for whom its HTTP server makes up a bare 500, and a line of text to the other.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(ROUTES_OF_SERVE):
            await self._app(scope, receive, send)
            return
        begun = withheld = False

        async def pass_on(message: Message) -> None:
            nonlocal begun, withheld
            withheld = withheld or _tells_of_none(message)
            if not withheld:
                begun = True
                await send(message)

        await self._app(scope, receive, pass_on)
        if not begun:
            await _lost()(scope, receive, send)


def _tells_of_none(message: Message) -> bool:
    """Whether it begins Serve's own answer where it has no replica to ask."""
    if message["type"] != "http.response.start" or message["status"] != UNAVAILABLE:
        return False
    return not any(name.lower() == _OURS for name, _ in message.get("headers", ()))


def _lost() -> JSONResponse:
    error = PlatformError("runner_disconnected", "Whoever was to answer this call was lost; try again.")
    return JSONResponse(error.body(), error.status, error.headers())
