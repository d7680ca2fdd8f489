"""The public keys of webhooks, where fal's verifiers look for them (fal-protocol 5)."""

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.webhooks.signing import KeyRing, jwks

PATH = "/.well-known/jwks.json"
PATHS = (PATH, f"/rest{PATH}")
FRESH_S = 3600  # a day is the most that receivers keep a key set


def jwks_routes(ring: KeyRing) -> list[Route]:
    async def keys(request: Request) -> Response:
        found = await asyncio.to_thread(jwks, ring)
        return JSONResponse(found, headers={"cache-control": f"public, max-age={FRESH_S}"})

    return [Route(path, keys, methods=["GET"]) for path in PATHS]
