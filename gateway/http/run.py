"""The sync run: one call from input to output; a client that leaves cancels it (fal-protocol 3)."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.endpoints import Endpoint, Order
from gateway.errors import PlatformError
from gateway.execution import LostClaim, answer_of, execute, patiently, uninterrupted
from gateway.heart import Heart
from gateway.http.accepting import Accepting, accept, endpoint_of
from gateway.http.admission import Admission
from gateway.http.answers import replayed
from gateway.http.authentication import caller
from gateway.http.parts import Parts
from gateway.http.terms import start_within, stores_io
from gateway.ledger.base import Answer, Claim, Outcome, Terms
from gateway.work import Event, Preview, Runner, Work

Listen = Callable[[Event], None]

logger = logging.getLogger("fooocus.gateway")


def run_routes(parts: Parts) -> list[Route]:
    async def run(request: Request) -> Response:
        order, attended = await begun(request, endpoint_of(request.path_params["endpoint"]), parts)
        return replayed(await attended.answer(), order.work.request_id, order.inactive)

    return [Route("/run/{endpoint:path}", run, methods=["GET", "POST"])]


async def begun(
    request: Request, endpoint: Endpoint, parts: Parts, listen: Listen | None = None
) -> tuple[Order, "Attended"]:
    """The run that a request asks for, in the ledger and to be answered. listen: hears what it says, with previews."""
    if request.method == "HEAD":  # the router adds it to GET, and it must draw nothing
        raise HTTPException(405)
    start_timeout_s = start_within(request)
    asked = await accept(request, endpoint, parts)
    claim = await uninterrupted(_claimed(request, endpoint, parts, asked))
    return asked.order, Attended(claim, endpoint.app, parts, request, start_timeout_s, listen)


async def _claimed(request: Request, endpoint: Endpoint, parts: Parts, asked: Accepting) -> Claim:
    """The run in the ledger, counted for its key; where that fails nothing of it is left."""
    work, who, admission = asked.order.work, caller(request), Admission(parts.keys)
    limit = who.limits.concurrency
    terms = Terms(key=who.key, max_held=limit, media=asked.media, input=asked.input, store_io=stores_io(request))
    # an owner for this run alone, so that its heartbeats and cancellations touch one row
    owner = f"run:{work.request_id}"
    try:
        await admission.charge(who, work.spec)
        try:
            return await parts.ledger.begin(work, endpoint.app, owner, parts.settings.lease_s, terms)
        except BaseException:
            await admission.give_back(who, work.spec)
            raise
    except BaseException:
        await asked.forget(parts.files)
        raise


class Attended:
    """A run whose client waits: it ends with its result, or early when nobody wants that any more."""

    def __init__(
        self,
        claim: Claim,
        app: str,
        parts: Parts,
        request: Request,
        start_timeout_s: float | None,
        listen: Listen | None = None,
    ) -> None:
        self._claim, self._app, self._parts, self._request = claim, app, parts, request
        self._start_timeout_s, self._listen = start_timeout_s, listen
        self._heart = Heart(parts.ledger, claim.owner, parts.settings.lease_s)
        self._begun = asyncio.Event()

    async def answer(self) -> Answer:
        runner = _Noting(self._parts.runner, self._begun, self._listen)
        limit_s = self._parts.settings.run_timeout_s
        run = asyncio.create_task(execute(self._claim, self._parts.ledger, self._heart, runner, limit_s))
        ends = [asyncio.create_task(end) for end in self._early_ends()]
        try:
            await asyncio.wait({run, *ends}, return_when=asyncio.FIRST_COMPLETED)
            if not run.done():
                outcome, early = next(end.result() for end in ends if end.done())
                # first in the ledger, so that the run that is cancelled next finds its claim gone and writes nothing
                await self._end(outcome, early)
                return await self._written()
            return await run
        except LostClaim:
            return await self._written()
        except asyncio.CancelledError:
            # so the server tells that the client has left, where it does not say it by a message
            await self._end(Outcome.CANCELLED, answer_of(_disconnected()))
            raise
        finally:
            for task in (run, *ends):
                task.cancel()
            await asyncio.gather(run, *ends, return_exceptions=True)

    async def _end(self, outcome: Outcome, answer: Answer) -> None:
        """Write the end although the server, which says by a message and by cancelling that a client has left, may do
        the second during what follows the first.
        """
        await uninterrupted(patiently(lambda: self._parts.ledger.finish(self._claim, outcome, answer)))

    def _early_ends(self) -> list[Coroutine[Any, Any, tuple[Outcome, Answer]]]:
        ends = [self._client_left(), self._somebody_cancelled()]
        if self._start_timeout_s is not None:
            ends.append(self._came_too_late(self._start_timeout_s))
        return ends

    async def _client_left(self) -> tuple[Outcome, Answer]:
        try:
            while (await self._request.receive())["type"] != "http.disconnect":
                pass
        except Exception:
            # a server between us and the client may lose it before it can say so
            logger.info("the client of request %s is lost", self._claim.work.request_id, exc_info=True)
        return Outcome.CANCELLED, answer_of(_disconnected())

    async def _somebody_cancelled(self) -> tuple[Outcome, Answer]:
        while True:
            if await self._cancelled_at_beat():
                break
            await asyncio.sleep(self._parts.settings.beat_s)
        error = PlatformError("client_cancelled", "Request was cancelled by the client")
        return Outcome.CANCELLED, answer_of(error)

    async def _came_too_late(self, timeout_s: float) -> tuple[Outcome, Answer]:
        await asyncio.sleep(timeout_s)
        if self._begun.is_set():
            await asyncio.Event().wait()  # the deadline is to start; it has no effect once running
        answer = answer_of(PlatformError("request_timeout", f"The request did not start within {timeout_s:g} s."))
        headers = {**answer.headers, "x-fal-request-timeout-type": "user"}
        return Outcome.ERROR, Answer(answer.status, answer.body, headers, answer.error, answer.error_type)

    async def _cancelled_at_beat(self) -> bool:
        try:
            return self._claim.work.request_id in (await self._heart.beat()).cancelled
        except Exception:
            logger.exception("the ledger did not answer for request %s", self._claim.work.request_id)
            return False

    async def _written(self) -> Answer:
        """What the ledger says about a request that this run has not ended itself."""
        written = await self._parts.ledger.answer(self._claim.work.request_id, self._app)
        return written or answer_of(PlatformError("runner_disconnected", "The run was lost."))


class _Noting:
    """A runner that notes when drawing begins. listen: hears all events, with previews, which nobody else does."""

    def __init__(self, inner: Runner, begun: asyncio.Event, listen: Listen | None) -> None:
        self._inner, self._begun, self._listen = inner, begun, listen

    async def run(self, work: Work, previews: bool = False) -> AsyncIterator[Event]:
        events = self._inner.run(work, self._listen is not None)
        try:
            async for event in events:
                self._begun.set()
                if self._listen is not None:
                    self._listen(event)
                if not isinstance(event, Preview):
                    yield event
        finally:
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()


def _disconnected() -> PlatformError:
    return PlatformError("client_disconnected", "The client left before the request was finished.")
