"""What all answers have in common: the request's id, fal's error shapes, and no fault that goes unanswered."""

import logging
import uuid
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import PlatformError, ServiceError, StoreUnavailable
from gateway.ledger.base import Answer
from gateway.rate_limited_log import RateLimitedLog

REQUEST_ID = "x-fal-request-id"
INACTIVE = "x-fooocus-inactive"

logger = logging.getLogger("fooocus.gateway")


def error_response(error: ServiceError, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(error.body(), error.status, {**error.headers(), **(headers or {})})


def replayed(answer: Answer, request_id: str, inactive: Sequence[str] = ()) -> Response:
    """The model's own answer, success or failure (fal-protocol 0.7)."""
    return JSONResponse(
        answer.body, answer.status, {**answer.headers, REQUEST_ID: request_id, **inactive_headers(inactive)}
    )


def inactive_headers(inactive: Sequence[str]) -> dict[str, str]:
    return {INACTIVE: ", ".join(inactive)} if inactive else {}


async def on_service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)  # noqa: S101 (registered for this class alone)
    return error_response(error)


class OnStoreUnavailable:
    """Answers calls that a store has failed. It may fail every one, so few of them are logged."""

    def __init__(self) -> None:
        self._log = RateLimitedLog(logger)

    async def __call__(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, StoreUnavailable)  # noqa: S101 (registered for this class alone)
        cause = error.__cause__ or error
        self._log.warning("%s %s: the %s store is away: %r", request.method, request.url.path, error.store, cause)
        return error_response(error)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Unknown routes and wrong methods, which the router raises."""
    assert isinstance(error, HTTPException)  # noqa: S101 (registered for this class alone)
    headers, detail = dict(error.headers or {}), error.detail
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and (methods := _methods(request) or headers.get("Allow")):
        headers["Allow"] = methods
        detail = f"{detail}; use {methods}"
    return error_response(PlatformError("bad_request", detail, status=error.status_code), headers)


def _methods(request: Request) -> str:
    """Those of all routes of the path, of which the router names the first one's alone. Routes of any path count last.

    HEAD, which the router adds to every GET, is left out.
    """
    routes = [
        each
        for each in request.app.routes
        if isinstance(each, Route) and each.matches(request.scope)[0] is Match.PARTIAL
    ]
    own = [each for each in routes if ":path}" not in each.path]
    return ", ".join(sorted({method for each in own or routes for method in each.methods or () if method != "HEAD"}))


class RequestIds:
    """Gives every answer that does not name its request an id of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault(REQUEST_ID, str(uuid.uuid4()))
            await send(message)

        await self._app(scope, receive, send_with_id if scope["type"] == "http" else send)


class Unhandled:
    """Answers what no handler did: a log entry for us, no internals for the client. One that has left is no fault."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            logger.info("%s %s: the client left", scope["method"], scope["path"])
            if not begun:  # nobody reads it; the server counts it
                left = PlatformError("client_disconnected", "The client left before it was answered.")
                await error_response(left)(scope, receive, send)
        except Exception:
            if begun or scope["type"] != "http":
                raise
            logger.exception("%s %s failed", scope["method"], scope["path"])
            fault = PlatformError("internal_error", "An internal error occurred.")
            await error_response(fault)(scope, receive, send)
