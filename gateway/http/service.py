"""The service about itself: health, readiness, its schemas, tokens for browsers."""

import asyncio
import logging
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from gateway.endpoints import ENDPOINTS
from gateway.errors import PlatformError, StoreUnavailable
from gateway.files.availability import TIMEOUT_S as ANSWER_S
from gateway.http.auth import OPENAPI, caller
from gateway.http.hosts import origin, queue_root
from gateway.http.openapi import endpoint_document, service_document
from gateway.http.page import page
from gateway.http.parts import Parts
from gateway.http.request_body import json_object
from gateway.http.submission import unknown_endpoint
from gateway.keys.tokens import LONGEST_S, Purpose, Tokens
from gateway.ledger.models import Ledger
from gateway.work import FamilyState

READY_TIMEOUT_S = 10.0  # the question to the runner has a shorter one of its own

logger = logging.getLogger("fooocus.gateway")


async def _depth(ledger: Ledger) -> int:
    """How many wait, from a ledger that answers as soon as its watch expects."""
    try:
        async with asyncio.timeout(ANSWER_S):
            return await ledger.depth()
    except TimeoutError:
        raise StoreUnavailable("ledger") from None


def _told(family: FamilyState) -> dict[str, Any]:
    return {
        "name": family.name,
        "checks_pictures": family.checks_pictures,
        "has": [*family.has],
        "missing": dict(family.missing),
    }


def service_routes(parts: Parts) -> list[Route]:
    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(request: Request) -> Response:
        for watch, well in zip(
            parts.watches, await asyncio.gather(*(watch.well() for watch in parts.watches)), strict=True
        ):
            if not well:
                raise StoreUnavailable(watch.store)  # which its watch has logged
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                waiting = await _depth(parts.ledger)
                can_draw = await parts.can_draw()
        except StoreUnavailable:  # since its watch has looked
            raise
        except Exception:
            logger.exception("not ready")
            raise PlatformError("runner_connection_error", "The service cannot reach its parts.") from None
        if not can_draw:
            raise PlatformError("runner_scheduling_failure", "Nothing is ready to draw.")
        family = {} if parts.family is None else {"family": _told(parts.family)}
        return JSONResponse({"status": "ready", "waiting": waiting, **family})

    async def schemas(request: Request) -> Response:
        endpoint_id, public_url = request.query_params.get("endpoint_id"), parts.settings.public_url
        keys_required = parts.settings.keys == "required"
        if endpoint_id is None:
            document = service_document([*ENDPOINTS.values()], origin(request, public_url), keys_required)
        else:
            if (endpoint := ENDPOINTS.get(endpoint_id)) is None:
                raise unknown_endpoint(endpoint_id)
            document = endpoint_document(endpoint, queue_root(request, public_url), keys_required)
        return JSONResponse(document)

    async def root(request: Request) -> Response:
        policy = "default-src 'none'; style-src 'unsafe-inline'"
        return HTMLResponse(page(ENDPOINTS.values(), parts.family), headers={"content-security-policy": policy})

    return [
        Route("/", root, methods=["GET"]),
        Route("/health", health, methods=["GET"]),
        Route("/ready", ready, methods=["GET"]),
        *(Route(path, schemas, methods=["GET"]) for path in OPENAPI),
    ]


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
