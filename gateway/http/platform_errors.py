"""The shape of the faults of fal's platform routes, beside this service's own."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.errors import PlatformError

Handler = Callable[[Request], Awaitable[Response]]

_TYPES: Mapping[int, str] = MappingProxyType(
    {400: "validation_error", 401: "authorization_error", 403: "authorization_error", 404: "not_found"}
)


def in_platform_shape(handler: Handler) -> Handler:
    """`handler`, whose PlatformErrors are also told as fal's platform routes tell theirs: under `error`."""

    async def handled(request: Request) -> Response:
        try:
            return await handler(request)
        except PlatformError as fault:
            told = {"type": _TYPES.get(fault.status, "server_error"), "message": fault.detail}
            return JSONResponse({**fault.body(), "error": told}, fault.status, fault.headers())

    return handled
