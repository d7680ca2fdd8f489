"""The gateway's ASGI app, built from its parts."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from gateway.errors import ServiceError, StoreUnavailable
from gateway.files.uploads import Uploads
from gateway.http.auth import Authenticated
from gateway.http.files import media_routes
from gateway.http.history import history_routes
from gateway.http.hosts import HostRouter
from gateway.http.long_poll import StatusBroadcaster
from gateway.http.middleware import BoundedCalls, CsrfGuard, TrustedHosts, allowed_hosts, ordinary_calls
from gateway.http.overview import overview_routes
from gateway.http.parts import Parts
from gateway.http.platform_files import platform_file_routes
from gateway.http.platform_models import platform_model_routes
from gateway.http.queue import RequestQueue, queue_routes
from gateway.http.request_body import Bodies, Receiving
from gateway.http.responses import (
    INACTIVE,
    REQUEST_ID,
    OnStoreUnavailable,
    RequestIds,
    Unhandled,
    on_http_exception,
    on_service_error,
)
from gateway.http.routes import Route
from gateway.http.run import SyncRuns, run_routes, stream_routes
from gateway.http.service import jwks_routes, service_routes, token_routes
from gateway.http.storage import cdn_routes, storage_routes
from gateway.keys.tokens import Tokens
from gateway.mcp.routes import mcp_routes
from gateway.openai.errors import OpenAiAnswers
from gateway.openai.routes import openai_routes
from gateway.playground import playground_routes
from gateway.webhooks.signing import ring_of

__all__ = ["Parts", "create_app"]

# what a browser's script may read (fal-protocol 1.9)
EXPOSED = (REQUEST_ID, "x-fal-request-timeout-type", "x-fal-error-type", "etag", INACTIVE)


def create_app(parts: Parts) -> Starlette:
    """The app. Whoever makes the parts opens and closes them.

    Raises ValueError when keys are required and missing, and when Serve lets a replica have too few calls.
    """
    settings = parts.settings
    tokens = Tokens.of(settings)
    watching = StatusBroadcaster(parts.ledger, parts.dispatcher)
    runs, requests = SyncRuns(parts), RequestQueue(parts, watching)
    uploads = None if parts.uploads is None else Uploads(parts.files, parts.uploads, tokens, settings)
    app = Starlette(
        routes=[
            *playground_routes(parts),
            *history_routes(parts),
            *queue_routes(requests, parts, watching),
            *stream_routes(runs),
            *run_routes(runs),
            *openai_routes(runs),
            *jwks_routes(ring_of(settings)),
            *token_routes(tokens),
            *_upload_routes(parts, tokens, uploads),
            *mcp_routes(runs, requests, uploads),
            *platform_model_routes(parts),
            *platform_file_routes(parts, tokens),
            *media_routes(parts, tokens),
            *service_routes(parts),
            *overview_routes(parts),
        ],
        middleware=[
            Middleware(OpenAiAnswers),
            Middleware(RequestIds),
            Middleware(TrustedHosts, allowed_hosts(settings)),
            *([Middleware(CsrfGuard, settings.cors_origins)] if settings.keys == "off" else []),
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=["GET", "POST", "PUT", "DELETE", "OPTIONS"],
                allow_headers=["*"],  # x-fal-* and x-app-fal-* cannot be said as patterns
                expose_headers=EXPOSED,
            ),
            Middleware(BoundedCalls, parts.max_ongoing_requests),
            Middleware(Unhandled),
            Middleware(HostRouter),
            *_authentication(parts, tokens),
            # the other half of the calls is for those whose bodies have arrived
            Middleware(Receiving, Bodies(settings, lambda: ordinary_calls(parts.max_ongoing_requests()) // 2)),
        ],
        exception_handlers={
            StoreUnavailable: OnStoreUnavailable(parts.monitor),
            ServiceError: on_service_error,
            HTTPException: on_http_exception,
        },
    )
    # an async Python client takes a redirect for an error (fal-protocol 0.6)
    app.router.redirect_slashes = False
    return app


def _upload_routes(parts: Parts, tokens: Tokens, uploads: Uploads | None) -> list[Route]:
    if uploads is None:
        return []
    return [*storage_routes(parts, tokens, uploads), *cdn_routes(parts, uploads)]


def _authentication(parts: Parts, tokens: Tokens) -> list[Middleware]:
    if parts.settings.keys == "off":
        return []
    if parts.keys is None:
        raise ValueError("keys are required, and the app was given no store of keys")
    return [Middleware(Authenticated, parts.keys, tokens)]
