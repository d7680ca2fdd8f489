"""What answers share: fal's error shapes, the status object, server-sent events, no fault that goes unanswered."""

import asyncio
import json
import logging
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import UTC
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import PlatformError, ServiceError, StoreUnavailable
from gateway.http import bodies
from gateway.http.long_poll import PERIOD_S, StatusBroadcaster
from gateway.http.routes import methods_of
from gateway.ledger.models import Accepted, Answer, Ledger, LogEntry, State, Status
from gateway.monitoring.contract import STORE_ERRORS
from gateway.monitoring.monitor import Monitor
from gateway.rate_limited_log import RateLimitedLog

REQUEST_ID = "x-fal-request-id"
INACTIVE = "x-fooocus-inactive"

logger = logging.getLogger("fooocus.gateway")


ERROR_SHAPE = "fooocus.error_shape"
"""Where a call has another shape of errors than fal's, set by what stands in front of everything that may refuse it."""

ErrorShape = Callable[[int, Mapping[str, Any], Mapping[str, str]], Response]
"""The answer in that shape, of the status, the body and the headers in fal's."""


def error_response(error: ServiceError, headers: Mapping[str, str] | None = None) -> Response:
    return _ErrorResponse(error.body(), error.status, {**error.headers(), **(headers or {})})


class _ErrorResponse(JSONResponse):
    """In fal's shape, or in that of the call which it answers."""

    def __init__(self, body: Mapping[str, Any], status: int, headers: Mapping[str, str]) -> None:
        super().__init__(body, status, headers)
        self._told = status, body, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        shape: ErrorShape | None = scope.get(ERROR_SHAPE)
        if shape is None:
            return await super().__call__(scope, receive, send)
        return await shape(*self._told)(scope, receive, send)


def replayed(answer: Answer, request_id: str, inactive: Sequence[str] = ()) -> Response:
    """The model's own answer, success or failure (fal-protocol 0.7)."""
    headers = {**answer.headers, REQUEST_ID: request_id, **inactive_headers(inactive)}
    if answer.text is None:
        return JSONResponse(answer.body, answer.status, headers)
    return Response(answer.text, answer.status, headers, JSONResponse.media_type)


def inactive_headers(inactive: Sequence[str]) -> dict[str, str]:
    return {INACTIVE: ", ".join(inactive)} if inactive else {}


async def on_service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)  # noqa: S101 (registered for this class alone)
    return error_response(error)


class OnStoreUnavailable:
    """Answers calls that a store has failed. It may fail every one, so few of them are logged."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor, self._log = monitor, RateLimitedLog(logger)

    async def __call__(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, StoreUnavailable)  # noqa: S101 (registered for this class alone)
        cause = error.__cause__ or error
        self._monitor.add(STORE_ERRORS, store=error.store)
        self._log.warning("%s %s: the %s store is away: %r", request.method, request.url.path, error.store, cause)
        return error_response(error)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Unknown routes and wrong methods, which the router raises."""
    assert isinstance(error, HTTPException)  # noqa: S101 (registered for this class alone)
    headers, detail = dict(error.headers or {}), error.detail
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and (methods := methods_of(request) or headers.get("Allow")):
        headers["Allow"] = methods
        detail = f"{detail}; use {methods}"
    return error_response(PlatformError("bad_request", detail, status=error.status_code), headers)


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


KEEP_ALIVE_S = 15.0
KEEP_ALIVE = ": keep-alive\n\n"
LINGER_S = 0.06  # an old client drops events that it has not read when the stream closes


def event_text(data: Any, name: str | None = None) -> str:
    """One event with `data` as JSON. ASCII only: a client decodes each network chunk on its own."""
    head = "" if name is None else f"event: {name}\n"
    return f"{head}data: {json.dumps(data)}\n\n"


def event_stream_headers() -> dict[str, str]:
    """That nobody on the way keeps events back."""
    return {"cache-control": "no-store", "x-accel-buffering": "no"}


_LEVELS: Mapping[str, str] = MappingProxyType({"WARNING": "WARN"})  # as fal calls them


def links(root: str, app: str, request_id: str) -> bodies.Links:
    """The addresses of a request, absolute (fal-protocol 0.2). root: where the queue's routes stand."""
    address = f"{root}/{app}/requests/{request_id}"
    return {
        "response_url": address,
        "status_url": f"{address}/status",
        "cancel_url": f"{address}/cancel",
    }


def accepted_object(accepted: Accepted, app: str, root: str) -> bodies.Accepted:
    """What a submit is answered. root: where the queue's routes stand."""
    return {
        "status": "IN_QUEUE",
        "request_id": accepted.request_id,
        "gateway_request_id": accepted.request_id,
        "queue_position": accepted.position,
        **links(root, app, accepted.request_id),
    }


def status_object(status: Status, logs: Sequence[LogEntry] | None, root: str) -> bodies.QueueStatus:
    """logs: None where nobody asked for them; the key is there all the same (fal-protocol 0.1)."""
    at = links(root, status.app, status.request_id)
    found: bodies.QueueStatus = {
        "status": status_word(status.state),
        "request_id": status.request_id,
        "response_url": at["response_url"],
        "status_url": at["status_url"],
        "cancel_url": at["cancel_url"],
    }
    match status.state:
        case State.QUEUED | State.CLAIMED:
            found["queue_position"] = status.position or 0
            return found
        case State.DONE:
            found["metrics"] = {"inference_time": status.inference_seconds}
            if status.error is not None:
                found["error"], found["error_type"] = status.error, status.error_type
    found["logs"] = None if logs is None else [log_object(entry) for entry in logs]
    return found


async def status_events(
    status: Status, ledger: Ledger, watching: StatusBroadcaster, root: str, with_logs: bool
) -> AsyncGenerator[str]:
    """Server-sent events from `status` on: one at every change, each with the log lines that are new in it.

    Ends after COMPLETED and never before, for clients fetch the result when the stream ends; or when the request was
    deleted.
    """
    told: tuple[State, int | None] | None = None
    last_line = 0
    with watching.watch(status) as watch:
        while True:
            try:
                logs = None
                if with_logs and status.lines > last_line and status.state in (State.RUNNING, State.DONE):
                    logs = await ledger.logs(status.request_id, last_line)
                    last_line = logs[-1].number if logs else last_line
            except Exception:
                logger.exception("the log of request %s could not be read; the stream goes on", status.request_id)
                await asyncio.sleep(PERIOD_S)
                continue
            state = State.QUEUED if status.state is State.CLAIMED else status.state
            if logs or told != (state, status.position):
                told = (state, status.position)
                yield event_text(status_object(status, logs, root))
            if status.state is State.DONE:
                break
            while not await watch.changed(KEEP_ALIVE_S):
                yield KEEP_ALIVE
            if watch.status is None:
                break
            status = watch.status
    await asyncio.sleep(LINGER_S)


def status_word(state: State) -> bodies.StatusWord:
    """What fal calls it."""
    match state:
        case State.QUEUED | State.CLAIMED:
            return "IN_QUEUE"
        case State.RUNNING:
            return "IN_PROGRESS"
        case State.DONE:
            return "COMPLETED"


def log_object(entry: LogEntry) -> bodies.LogEntry:
    at = entry.at if entry.at.tzinfo else entry.at.replace(tzinfo=UTC)
    # told twice: fal's Swift and Java clients read the labels without a test, the others what stands beside them
    labels: bodies.Labels = {"level": _LEVELS.get(entry.level, entry.level), "source": "USER"}
    return {"message": entry.message, "timestamp": at.isoformat(), **labels, "labels": labels}
