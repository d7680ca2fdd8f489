"""fal's storage routes, which are not built yet: a clear answer instead of an unknown route."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.errors import PlatformError

METHODS = ("GET", "POST", "PUT", "DELETE")


def later_routes() -> list[Route]:
    async def later(request: Request) -> Response:
        text = "Storage comes later; send pictures as data URIs or as http(s) addresses."
        raise PlatformError("bad_request", text, status=404)

    return [Route(f"/{surface}/{{rest:path}}", later, methods=[*METHODS]) for surface in ("rest", "cdn")]
