"""The service about itself: health, readiness, its schemas, tokens for browsers, the public keys of its webhooks."""

import asyncio
import logging

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.endpoints import ENDPOINTS
from gateway.errors import PlatformError, StoreUnavailable
from gateway.files.availability import TIMEOUT_S as ANSWER_S
from gateway.http import bodies
from gateway.http.auth import caller
from gateway.http.hosts import origin, queue_root
from gateway.http.openapi import endpoint_document, service_document
from gateway.http.parts import Parts
from gateway.http.request_body import read_body
from gateway.http.routes import Route
from gateway.http.submission import unknown_endpoint
from gateway.keys.base import Scope
from gateway.keys.tokens import Purpose, Tokens
from gateway.ledger.models import Ledger
from gateway.webhooks.signing import KeyRing, jwks
from gateway.work import FamilyState

OPENAPI = ("/openapi.json", "/api/openapi/queue/openapi.json")  # the second is fal's own path
READY_TIMEOUT_S = 5.0  # for each of those that are asked

logger = logging.getLogger("fooocus.gateway")


async def _depth(ledger: Ledger) -> int:
    """How many wait, from a ledger that answers as soon as its watch expects."""
    try:
        async with asyncio.timeout(ANSWER_S):
            return await ledger.depth()
    except TimeoutError:
        raise StoreUnavailable("ledger") from None


def _family(family: FamilyState) -> bodies.Family:
    return {
        "name": family.name,
        "checks_pictures": family.checks_pictures,
        "has": [*family.has],
        "missing": dict(family.missing),
    }


def service_routes(parts: Parts) -> list[Route]:
    async def health(request: Request) -> Response:
        return JSONResponse(bodies.Health(status="ok"))

    async def ready(request: Request) -> Response:
        for watch, well in zip(
            parts.watches, await asyncio.gather(*(watch.well() for watch in parts.watches)), strict=True
        ):
            if not well:
                raise StoreUnavailable(watch.store)  # which its watch has logged
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                waiting = await _depth(parts.ledger)
        except StoreUnavailable:  # since its watch has looked
            raise
        except Exception:
            logger.exception("not ready")
            raise PlatformError("runner_connection_error", "The service cannot reach its parts.") from None
        try:
            room = await asyncio.wait_for(parts.dispatcher.room(), READY_TIMEOUT_S)
        except Exception as fault:  # whatever it is, nobody has anything drawn now
            logger.warning("not ready: the dispatcher does not answer: %s", fault or type(fault).__name__)
            raise PlatformError("runner_scheduling_failure", "Nothing is ready to have requests drawn.") from None
        readiness = bodies.Readiness(status="ready", waiting=waiting, replicas=room.replicas, capacity=room.capacity)
        if parts.family is not None:
            readiness["family"] = _family(parts.family)
        return JSONResponse(readiness)

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

    return [
        Route("/health", health, methods=["GET"], needs=None),
        Route("/ready", ready, methods=["GET"], needs=None),
        *(Route(path, schemas, methods=["GET"], needs=None) for path in OPENAPI),
    ]


def token_routes(tokens: Tokens) -> list[Route]:
    async def issue(request: Request) -> Response:
        asked = await read_body(request, bodies.TokenRequest)
        if not {*bodies.APPS}.issuperset(asked.allowed_apps):
            raise PlatformError("bad_request", f"allowed_apps must name some of: {', '.join(bodies.APPS)}.")
        # a bare string is the only form that all clients accept
        token = tokens.issue(caller(request).key, Purpose.STREAM, asked.token_expiration, asked.allowed_apps)
        return JSONResponse(token, headers={"cache-control": "no-store"})

    return [Route(path, issue, methods=["POST"], needs=Scope.RUN) for path in ("/rest/tokens/", "/rest/tokens")]


JWKS = "/.well-known/jwks.json"
FRESH_S = 3600  # a day is the most that receivers keep a key set


def jwks_routes(ring: KeyRing) -> list[Route]:
    """The public keys of webhooks, where fal's verifiers look for them (fal-protocol 5)."""

    async def keys(request: Request) -> Response:
        found = await asyncio.to_thread(jwks, ring)
        return JSONResponse(found, headers={"cache-control": f"public, max-age={FRESH_S}"})

    return [Route(path, keys, methods=["GET"], needs=None) for path in (JWKS, f"/rest{JWKS}")]
