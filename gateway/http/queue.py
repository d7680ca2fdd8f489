"""The queue: submit, status, stream, result, cancel (fal-protocol 4)."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from gateway.endpoints import Endpoint, Order, app_of
from gateway.errors import PlatformError
from gateway.http import bodies
from gateway.http.auth import caller, owner
from gateway.http.hosts import queue_root
from gateway.http.long_poll import LongPoll, StatusBroadcaster, TokenBucket
from gateway.http.parts import Parts
from gateway.http.responses import (
    REQUEST_ID,
    accepted_object,
    error_response,
    event_stream_headers,
    inactive_headers,
    replayed,
    status_events,
    status_object,
)
from gateway.http.routes import Route
from gateway.http.submission import accept, endpoint_of, payload_of, submit, terms_of
from gateway.keys.base import Scope
from gateway.ledger.models import Accepted, Answer, CancelAnswer, LogEntry, State, Status, TooMany
from gateway.retries import shielded
from gateway.worker.events import Waker

HEAR_S = 0.5  # for how long a cancellation waits for the dispatcher to take notice
PENDING = "Request is still in progress"
STREAMS_OF_A_KEY = 100  # at a replica of the gateway; each holds one of the requests that Serve lets it have


def queue_routes(requests: "RequestQueue", parts: Parts, watching: StatusBroadcaster) -> list[Route]:
    # {endpoint} may be the app alone or hold the sub-path, which JavaScript clients drop (fal-protocol 0.3)
    queue = _Queue(requests, parts, watching)
    one = "/queue/{endpoint:path}/requests/{request_id}"
    return [
        Route(f"{one}/status", queue.status, methods=["GET"], needs=Scope.RUN),
        Route(f"{one}/status/stream", queue.stream, methods=["GET"], needs=Scope.RUN),
        Route(f"{one}/cancel", queue.cancel, methods=["PUT"], needs=Scope.RUN),
        Route(f"{one}/response", queue.result, methods=["GET"], needs=Scope.RUN),
        Route(one, queue.result, methods=["GET"], needs=Scope.RUN),
        Route("/queue/{endpoint:path}", queue.submit, methods=["POST"], needs=Scope.RUN),
    ]


class RequestQueue:
    """Puts requests into the queue, tells of them and cancels them, for callers that may name them, whatever their
    protocol. app: the first two segments of an endpoint's id.
    """

    def __init__(self, parts: Parts, watching: StatusBroadcaster) -> None:
        self._parts, self._ledger, self._watching = parts, parts.ledger, watching
        self._waker = Waker(parts.dispatcher)

    async def submit(self, request: Request, endpoint: Endpoint, payload: Any) -> tuple[Accepted, Order]:
        """payload: the input, as decoded JSON."""
        asked = await accept(request, endpoint, payload, self._parts)
        terms = partial(terms_of, request, asked, self._parts.settings.allow_loopback_urls)
        accepted = await shielded(submit(request, endpoint, asked, terms, self._parts))
        self._waker.wake()
        return accepted, asked.order

    async def status(self, request: Request, app: str, request_id: str) -> Status:
        """Raises PlatformError (404) for a request that is unknown, or another caller's."""
        status = await self._ledger.status(request_id, app, owner(request))
        if status is None:
            raise PlatformError("bad_request", "Request not found", status=404)
        return status

    async def logs(self, status: Status) -> Sequence[LogEntry] | None:
        """None before there are any."""
        if status.state in (State.RUNNING, State.DONE):
            return await self._ledger.logs(status.request_id)
        return None

    async def answer(self, request: Request, app: str, request_id: str) -> Answer | None:
        """None of a request that has not ended. Raises as `status`."""
        answer = await self._ledger.answer(request_id, app, owner(request))
        if answer is None:
            await self.status(request, app, request_id)
        return answer

    async def cancel(self, request: Request, app: str, request_id: str) -> CancelAnswer:
        found = await self._ledger.cancel(request_id, app, owner(request))
        if found is CancelAnswer.REMOVED:
            self._watching.changed({request_id})
        if found in (CancelAnswer.REMOVED, CancelAnswer.REQUESTED):
            await self._hear(request_id)
        return found

    async def _hear(self, request_id: str) -> None:
        with suppress(Exception):  # a dispatcher that does not answer looks by itself, a little later
            async with asyncio.timeout(HEAR_S):
                await self._parts.dispatcher.hear(request_id)


def _refusal(status: Literal["ALREADY_COMPLETED", "NOT_FOUND"], why: str) -> bodies.CancelRefusal:
    text = f"{status}: {why}"
    return bodies.CancelRefusal(status=status, detail=text, message=text)


CANCELLATIONS: Mapping[CancelAnswer, tuple[int, bodies.CancelAnswer | bodies.CancelRefusal]] = MappingProxyType(
    {
        CancelAnswer.REMOVED: (202, bodies.CancelAnswer(status="OK")),
        CancelAnswer.REQUESTED: (202, bodies.CancelAnswer(status="CANCELLATION_REQUESTED")),
        CancelAnswer.ALREADY_DONE: (
            400,
            _refusal("ALREADY_COMPLETED", "the request has ended and cannot be cancelled"),
        ),
        CancelAnswer.UNKNOWN: (404, _refusal("NOT_FOUND", "no such request")),
    }
)
"""What a client is answered: status and body."""


class _Queue:
    def __init__(self, requests: RequestQueue, parts: Parts, watching: StatusBroadcaster) -> None:
        self._requests, self._parts, self._ledger, self._watching = requests, parts, parts.ledger, watching
        self._streams: Counter[str] = Counter()
        self._long_poll = LongPoll(self._watching, TokenBucket(lambda: parts.settings.status_polls_per_s))

    async def submit(self, request: Request) -> Response:
        endpoint = endpoint_of(request.path_params["endpoint"])
        payload = await payload_of(request, self._parts.settings.max_body_bytes)
        accepted, order = await self._requests.submit(request, endpoint, payload)
        request_id = accepted.request_id
        body = accepted_object(accepted, endpoint.app, self._root(request))
        return JSONResponse(body, headers={REQUEST_ID: request_id, **inactive_headers(order.inactive)})

    async def status(self, request: Request) -> Response:
        with_logs = _asks_for_logs(request)
        status = await self._long_poll.wait_for_change(await self._known(request), with_logs)
        logs = await self._requests.logs(status) if with_logs else None
        code = 200 if status.state is State.DONE else 202
        return JSONResponse(status_object(status, logs, self._root(request)), code, {REQUEST_ID: status.request_id})

    async def stream(self, request: Request) -> Response:
        status = await self._known(request)
        key = caller(request).key
        if key and self._streams[key] >= STREAMS_OF_A_KEY:
            raise TooMany(f"{STREAMS_OF_A_KEY} status streams of this key are open here; it may have no more.")
        events = status_events(status, self._ledger, self._watching, self._root(request), _asks_for_logs(request))
        return StreamingResponse(
            self._counted(key, events),
            media_type="text/event-stream",
            headers={REQUEST_ID: status.request_id, **event_stream_headers()},
        )

    async def _counted(self, key: str, events: AsyncGenerator[str]) -> AsyncIterator[str]:
        self._streams[key] += 1
        try:
            async with aclosing(events):
                async for event in events:
                    yield event
        finally:
            self._streams[key] -= 1
            if not self._streams[key]:
                del self._streams[key]

    async def result(self, request: Request) -> Response:
        app, request_id = _named(request)
        answer = await self._requests.answer(request, app, request_id)
        if answer is None:
            return error_response(PlatformError("bad_request", PENDING), {REQUEST_ID: request_id})
        return replayed(answer, request_id)

    async def cancel(self, request: Request) -> Response:
        app, request_id = _named(request)
        found = await self._requests.cancel(request, app, request_id)
        code, body = CANCELLATIONS[found]
        return JSONResponse(body, code, {} if found is CancelAnswer.UNKNOWN else {REQUEST_ID: request_id})

    async def _known(self, request: Request) -> Status:
        return await self._requests.status(request, *_named(request))

    def _root(self, request: Request) -> str:
        return queue_root(request, self._parts.settings.public_url)


def _named(request: Request) -> tuple[str, str]:
    return app_of(request.path_params["endpoint"]), request.path_params["request_id"]


def _asks_for_logs(request: Request) -> bool:
    return request.query_params.get("logs", "").lower() in ("1", "true")
