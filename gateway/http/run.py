"""The sync run, whole or as server-sent events: a client that leaves cancels it (fal-protocol 3)."""

import asyncio
import base64
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.endpoints import Endpoint, Order
from gateway.errors import PlatformError, ServiceError
from gateway.http.auth import caller
from gateway.http.parts import Parts
from gateway.http.responses import (
    KEEP_ALIVE,
    KEEP_ALIVE_S,
    LINGER_S,
    REQUEST_ID,
    event_stream_headers,
    event_text,
    inactive_headers,
    replayed,
)
from gateway.http.routes import Route
from gateway.http.submission import (
    Submission,
    accept,
    endpoint_of,
    payload_of,
    run_terms_of,
    start_within,
    submit,
)
from gateway.keys.base import Scope as KeyScope
from gateway.keys.tokens import Purpose
from gateway.ledger.models import Answer, Outcome, Terms
from gateway.ledger.transitions import late_answer, left_answer, platform_answer
from gateway.retries import AWAY_S, shielded, with_retries
from gateway.work import Preview, Step
from gateway.worker.events import Ended, Follower, Gone, LatestEvents, Stopping
from gateway.worker.executor import answer_of

Listen = Callable[[Step | Preview], None]

logger = logging.getLogger("fooocus.gateway")


def run_routes(runs: "SyncRuns") -> list[Route]:
    async def run(request: Request) -> Response:
        endpoint = endpoint_of(request.path_params["endpoint"])
        begun = await runs.begin(request, endpoint, await runs.payload_of(request))
        return replayed(await begun.answer(), begun.request_id, begun.order.inactive)

    return [Route("/run/{endpoint:path}", run, methods=["GET", "POST"], needs=KeyScope.RUN)]


class SyncRuns:
    """Puts runs into the queue, where they take their turn, and waits for their ends at the client's connection."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.follower = Follower(parts.dispatcher, parts.ledger, parts.settings.lease_s)

    async def payload_of(self, request: Request) -> Any:
        """The input of a run on fal's routes."""
        return await payload_of(request, self.parts.settings.max_body_bytes)

    async def begin(
        self, request: Request, endpoint: Endpoint, payload: Any, listen: Listen | None = None
    ) -> "WaitingRun":
        """The run that a request asks for, in the ledger, to be answered or left.

        payload: its input, as decoded JSON. listen: hears how far it is, with previews.
        """
        start_within_s = start_within(request)
        asked = await accept(request, endpoint, payload, self.parts)
        terms = partial(run_terms_of, request, asked, self.parts.settings, self.follower.name)
        run = WaitingRun(self, request, asked.order, endpoint.app, start_within_s, listen)
        try:
            # a client that leaves in the midst of it must leave neither pictures nor a request that nobody listens to
            await shielded(self._submit(run, request, endpoint, asked, terms))
        except BaseException:
            await shielded(run.leave())
            raise
        return run

    async def _submit(
        self, run: "WaitingRun", request: Request, endpoint: Endpoint, asked: Submission, terms: Callable[[], Terms]
    ) -> None:
        accepted = await submit(request, endpoint, asked, terms, self.parts, self.follower.place(caller(request)))
        run.waits = True
        self.follower.submitted(run.request_id, accepted.claim)


class WaitingRun:
    """A run whose client waits: it ends with its result, or early when nobody wants that any more."""

    def __init__(
        self,
        runs: SyncRuns,
        request: Request,
        order: Order,
        app: str,
        start_within_s: float | None,
        listen: Listen | None,
    ) -> None:
        self.order = order
        self._ledger, self._follower = runs.parts.ledger, runs.follower
        self._request, self._app, self._start_within_s, self._listen = request, app, start_within_s, listen
        self._following = ExitStack()
        self._events: LatestEvents = self._following.enter_context(
            self._follower.follow(self.request_id, listen is not None)
        )
        self.waits = self._has_left = False  # waits: it is in the ledger, and not answered

    @property
    def request_id(self) -> str:
        return self.order.work.request_id

    async def answer(self) -> Answer:
        """The answer, whoever ended the request. Cancelling this ends the request, for its client has left."""
        ends = [asyncio.create_task(end) for end in (self._told(), self._left(), self._too_late())]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            found = next(end.result() for end in ends if end.done())
            self.waits = False
            # where this process stood still, the ledger takes the client for gone, who is still here
            return _lost() if found.error_type == "client_disconnected" and not self._has_left else found
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
            await shielded(self.leave())

    async def leave(self) -> None:
        """Listen no more; the request ends where it has not."""
        self._following.close()
        if self.waits:
            self.waits = False
            await self._abandon(Outcome.CANCELLED, left_answer())

    async def _told(self) -> Answer:
        """What the dispatcher says of it, at once, or else the ledger, where the dispatcher is lost."""
        while True:
            await self._events.filled.wait()
            for event in self._events.take():
                match event:
                    case Step() | Preview():
                        if self._listen is not None:
                            self._listen(event)
                    case Ended(answer):
                        if (found := answer or await self._stored(AWAY_S)) is not None:
                            return found
                    case Gone():
                        return _lost()
                    case Stopping():
                        stopping = platform_answer(PlatformError("runner_disconnected", "The service is stopping."))
                        return await self._abandon(Outcome.ERROR, stopping) or stopping

    async def _left(self) -> Answer:
        try:
            while (await self._request.receive())["type"] != "http.disconnect":
                pass
        except Exception as error:
            # a server between us and the client may lose it before it can say so
            logger.info("the client of request %s is lost: %s", self.request_id, error)
        self._has_left = True
        return await self._abandon(Outcome.CANCELLED, left_answer()) or left_answer()

    async def _too_late(self) -> Answer:
        if self._start_within_s is not None:
            await asyncio.sleep(self._start_within_s)
            if (answer := await self._abandon(Outcome.ERROR, late_answer(), begun=False)) is not None:
                return answer
        await asyncio.Event().wait()  # the deadline is to start; it has no effect once running
        raise AssertionError("nobody sets the event")

    async def _abandon(self, outcome: Outcome, answer: Answer, *, begun: bool = True) -> Answer | None:
        """Write the end, and tell whoever draws it. What the ledger holds then; None where it has not ended."""
        name = self._follower.name
        ended = with_retries(lambda: self._ledger.abandon(self.request_id, name, outcome, answer, begun=begun))
        if await shielded(ended):
            await self._follower.hear(self.request_id)
        return await self._stored()

    async def _stored(self, away_s: float = 0.0) -> Answer | None:
        return await with_retries(lambda: self._ledger.answer(self.request_id, self._app), away_s)


def _lost() -> Answer:
    return platform_answer(PlatformError("runner_disconnected", "The run was lost."))


STEP_PERIOD_S = 0.5  # between two events that tell no more than a step


def stream_routes(runs: SyncRuns) -> list[Route]:
    async def stream(request: Request) -> Response:
        endpoint = endpoint_of(request.path_params["endpoint"])
        news = RunNews()
        begun = await runs.begin(request, endpoint, await runs.payload_of(request), news.put)
        request_id, inactive = begun.request_id, begun.order.inactive
        run = asyncio.create_task(begun.answer())
        run.add_done_callback(lambda _: news.filled.set())
        try:
            # what fails before anything was drawn is answered as an error, of which clients make their typed ones
            async with asyncio.timeout(KEEP_ALIVE_S):
                await news.filled.wait()
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            await _stopped(run, begun)
            raise
        if run.done() and (answer := _answer(run)).status != 200:
            return replayed(answer, request_id, inactive)
        headers = {REQUEST_ID: request_id, **event_stream_headers(), **inactive_headers(inactive)}
        return _RunStream(begun, run, news, headers)

    path = "/run/{endpoint:path}/stream"
    return [Route(path, stream, methods=["GET", "POST"], needs=KeyScope.RUN, token=Purpose.STREAM)]


class RunNews:
    """What a run has said and nobody has read: the newest step and preview. A client that is slow skips the others.

    A preview is made while the run goes on, so it may be older than the newest step. What is told is how far the run
    is: it goes back only where the run itself begins anew.
    """

    def __init__(self) -> None:
        self.filled = asyncio.Event()
        self._step: Step | None = None
        self._is_new = False
        self._preview: Preview | None = None
        self._next_step_at = 0.0

    def put(self, event: Step | Preview) -> None:
        match event:
            case Step():
                self._step, self._is_new = event, True
            case Preview():
                self._preview = event
        self.filled.set()

    def read(self) -> dict[str, Any] | None:
        """The newest, as clients get it; None where it is not worth an event."""
        is_new, preview = self._is_new, self._preview
        self._is_new, self._preview = False, None
        self.filled.clear()
        at = self._step or preview
        if at is None:
            return None
        if preview is None:
            if not is_new or time.monotonic() < self._next_step_at:
                return None
            self._next_step_at = time.monotonic() + STEP_PERIOD_S
        return {"step": at.step, "steps": at.steps, "images": [] if preview is None else _images(preview)}


class _RunStream(Response):
    """The answer that streams. It never receives: the run itself listens whether its client is still there."""

    media_type = "text/event-stream"

    def __init__(self, begun: WaitingRun, run: asyncio.Task[Answer], news: RunNews, headers: Mapping[str, str]) -> None:
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._begun, self._run, self._news = begun, run, news

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for text in _events(self._run, self._news):
                await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await _stopped(self._run, self._begun)


async def _events(run: asyncio.Task[Answer], news: RunNews) -> AsyncIterator[str]:
    while True:
        try:
            async with asyncio.timeout(KEEP_ALIVE_S):
                await news.filled.wait()
        except TimeoutError:
            yield KEEP_ALIVE
            continue
        found = news.read()
        if run.done():
            break
        if found is not None:
            yield event_text(found)
    answer = _answer(run)
    if answer.status == 200:
        yield event_text(answer.body)
    else:
        yield event_text({**answer.body, "status_code": answer.status}, "error")
    await asyncio.sleep(LINGER_S)


async def _stopped(run: asyncio.Task[Answer], begun: WaitingRun) -> None:
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    await begun.leave()  # a task that was cancelled before its first step has not


def _answer(run: asyncio.Task[Answer]) -> Answer:
    try:
        return run.result()
    except ServiceError as error:
        return answer_of(error)
    except Exception:
        logger.exception("a streamed run has no end")
        return answer_of(PlatformError("internal_error", "An internal error occurred."))


def _images(preview: Preview) -> list[dict[str, Any]]:
    size = {"width": preview.width, "height": preview.height}
    head = f"data:{preview.content_type};base64,"
    return [
        {
            "url": head + base64.b64encode(content).decode("ascii"),
            "content_type": preview.content_type,
            "file_size": len(content),
            **size,
        }
        for content in preview.contents
    ]
