"""A run as server-sent events: how far it is, previews, and last its output (fal-protocol 3)."""

import asyncio
import base64
import logging
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.errors import PlatformError, ServiceError
from gateway.http.accepting import endpoint_of
from gateway.http.answers import REQUEST_ID, inactive_headers, replayed
from gateway.http.run import SyncRuns, WaitingRun
from gateway.http.sse import KEEP_ALIVE, KEEP_ALIVE_S, LINGER_S, event_stream_headers, event_text
from gateway.ledger.base import Answer
from gateway.work import Preview, Step
from gateway.worker.executor import answer_of

STEP_PERIOD_S = 0.5  # between two events that tell no more than a step

logger = logging.getLogger("fooocus.gateway")


def stream_routes(runs: SyncRuns) -> list[Route]:
    async def stream(request: Request) -> Response:
        endpoint = endpoint_of(request.path_params["endpoint"])
        news = News()
        begun = await runs.begin(request, endpoint, news.put)
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

    return [Route("/run/{endpoint:path}/stream", stream, methods=["GET", "POST"])]


class News:
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

    def __init__(self, begun: WaitingRun, run: asyncio.Task[Answer], news: News, headers: Mapping[str, str]) -> None:
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


async def _events(run: asyncio.Task[Answer], news: News) -> AsyncIterator[str]:
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
