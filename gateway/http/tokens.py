"""Tokens for streaming from a browser (fal-protocol 2)."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.endpoints import ENDPOINTS
from gateway.errors import PlatformError
from gateway.http.authentication import caller
from gateway.http.bodies import json_object
from gateway.keys.tokens import LONGEST_S, Purpose, Tokens

MAX_BODY_BYTES = 10_000


def token_routes(tokens: Tokens) -> list[Route]:
    known = {endpoint_id.split("/")[1] for endpoint_id in ENDPOINTS}

    async def issue(request: Request) -> Response:
        apps, lifetime_s = await _asked(request)
        if not apps or not known.issuperset(apps):
            raise PlatformError("bad_request", f"allowed_apps must name some of: {', '.join(sorted(known))}.")
        # a bare string is the only form that all clients accept
        token = tokens.issue(caller(request).key, Purpose.STREAM, lifetime_s, apps)
        return JSONResponse(token, headers={"cache-control": "no-store"})

    return [Route(path, issue, methods=["POST"]) for path in ("/rest/tokens/", "/rest/tokens")]


async def _asked(request: Request) -> tuple[list[str], float]:
    asked = await json_object(request, MAX_BODY_BYTES)
    apps, lifetime_s = asked.get("allowed_apps"), asked.get("token_expiration", 120)
    if not isinstance(apps, list) or not all(isinstance(app, str) for app in apps):
        raise PlatformError("bad_request", "allowed_apps must be a list of names.")
    if isinstance(lifetime_s, bool) or not isinstance(lifetime_s, int | float) or not 0 < lifetime_s <= LONGEST_S:
        raise PlatformError("bad_request", f"token_expiration must be from 1 to {LONGEST_S} seconds.")
    return apps, float(lifetime_s)
