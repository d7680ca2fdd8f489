"""The service about itself: health, readiness, its schemas, its page."""

import asyncio
import logging

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from gateway.endpoints import ENDPOINTS
from gateway.errors import PlatformError
from gateway.http.accepting import endpoint_of
from gateway.http.openapi import openapi
from gateway.http.page import page
from gateway.http.parts import Parts

READY_TIMEOUT_S = 10.0  # the question to the runner has a shorter one of its own

logger = logging.getLogger("fooocus.gateway")


def service_routes(parts: Parts) -> list[Route]:
    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(request: Request) -> Response:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                waiting = await parts.ledger.depth()
                can_draw = await parts.can_draw()
        except Exception:
            logger.exception("not ready")
            raise PlatformError("runner_connection_error", "The service cannot reach its parts.") from None
        if not can_draw:
            raise PlatformError("runner_scheduling_failure", "Nothing is ready to draw.")
        return JSONResponse({"status": "ready", "waiting": waiting})

    async def schemas(request: Request) -> Response:
        endpoint_id = request.query_params.get("endpoint_id")
        endpoints = list(ENDPOINTS.values()) if endpoint_id is None else [endpoint_of(endpoint_id)]
        return JSONResponse(openapi(endpoints))

    async def root(request: Request) -> Response:
        policy = "default-src 'none'; style-src 'unsafe-inline'"
        return HTMLResponse(page(ENDPOINTS.values()), headers={"content-security-policy": policy})

    return [
        Route("/", root, methods=["GET"]),
        Route("/health", health, methods=["GET"]),
        Route("/ready", ready, methods=["GET"]),
        Route("/openapi.json", schemas, methods=["GET"]),
    ]
