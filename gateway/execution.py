"""One claimed work, from the claim to its end in the ledger."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from gateway.endpoints import ENDPOINTS
from gateway.errors import RETRYABLE_PLATFORM, ModelError, PlatformError, ServiceError, ValidationErrors
from gateway.files.base import FILES
from gateway.ledger.base import Answer, Claim, Ledger, Outcome, Retried
from gateway.work import Finished, Runner, Step

T = TypeVar("T")

LOG_INTERVAL_S = 0.25  # between two transactions with log lines of one request
FIRST_PAUSE_S, LAST_PAUSE_S = 0.25, 8.0  # before a request that lost its runner is in the queue again
PAUSES_S = (0.1, 0.3, 1.0, 3.0)  # between attempts at a write that must not be lost

logger = logging.getLogger("fooocus.gateway")


class PutBack(Exception):
    """The request is in the queue again, to be tried by whoever claims it next."""


class LostClaim(Exception):
    """Somebody else has taken or ended the request: whatever its former holder made is dropped."""


async def execute(claim: Claim, ledger: Ledger, runner: Runner, run_timeout_s: float) -> Answer:
    """Draw a claimed work, with its progress in the ledger, and finish it there; return what was written.

    A run longer than `run_timeout_s` seconds ends in `generation_timeout`. Cancelling the task that runs this cancels
    the request too; to keep the request, requeue it in the ledger first. Raises LostClaim, and PutBack where a fault of
    the infrastructure leaves it another attempt.
    """
    log = RequestLog(claim, ledger)
    outcome = Outcome.ERROR
    fault: PlatformError | None = None
    media: Sequence[str] = ()
    try:
        try:
            async with asyncio.timeout(run_timeout_s) as limit:
                answer, media = await _draw(claim, ledger, runner, log)
            outcome = Outcome.OK
        except TimeoutError:
            if not limit.expired():
                raise
            answer = answer_of(ModelError("generation_timeout", "The generation took too long.", status=504))
    except LostClaim:
        await _uninterrupted(log.close())
        raise
    except asyncio.CancelledError:
        if _is_being_cancelled():
            cancelled = answer_of(PlatformError("client_cancelled", "Request was cancelled by the client"))
            await _uninterrupted(_finish(claim, ledger, log, Outcome.CANCELLED, cancelled))
            raise
        # the run was cancelled from below, not by whoever runs this
        fault = PlatformError("runner_disconnected", "The run was stopped before it finished.")
        answer = answer_of(fault)
    except ServiceError as error:
        answer = answer_of(error)
        if isinstance(error, PlatformError) and error.error_type in RETRYABLE_PLATFORM:
            fault = error
    except Exception:
        logger.exception("request %s failed", claim.work.request_id)
        answer = answer_of(PlatformError("internal_error", "An internal error occurred; the request was not finished."))
    if answer.error is not None:
        log.add("ERROR", answer.error)
    if fault is not None:
        return await _put_back(claim, ledger, log, answer)
    if not await _uninterrupted(_finish(claim, ledger, log, outcome, answer, media)):
        raise LostClaim(claim.work.request_id)
    return answer


async def _put_back(claim: Claim, ledger: Ledger, log: "RequestLog", answer: Answer) -> Answer:
    """Let a request be tried again after a fault that is not its own, a little later each time.

    A replica that died while it drew the request may have died of it, and the ledger counts such deaths.
    """
    await asyncio.sleep(min(FIRST_PAUSE_S * 2.0 ** min(claim.attempt - 1, 10), LAST_PAUSE_S))
    await _uninterrupted(log.close())
    match await _uninterrupted(patiently(lambda: ledger.retry(claim, answer, crashed=log.drawing))):
        case Retried.QUEUED:
            raise PutBack(claim.work.request_id)
        case Retried.ENDED:
            return answer
        case Retried.LOST:
            raise LostClaim(claim.work.request_id)


def answer_of(error: ServiceError) -> Answer:
    """The answer that the result route replays for `error`."""
    match error:
        case ModelError():
            error_type = error.type
        case ValidationErrors():
            error_type = error.errors[0].type
        case PlatformError():
            error_type = error.error_type
        case _:
            raise TypeError(f"{type(error).__name__} has no wire form")
    return Answer(error.status, error.body(), error.headers(), error=str(error), error_type=error_type)


async def patiently(write: Callable[[], Awaitable[T]]) -> T:
    """Make a write that must not be lost, again after a failure, a few seconds in all; then its error is raised."""
    for pause in PAUSES_S:
        try:
            return await write()
        except Exception:
            logger.exception("the ledger did not take a write; it is tried again")
            await asyncio.sleep(pause)
    return await write()


class RequestLog:
    """The log lines of one request, gathered so that the ledger sees at most four transactions a second.

    drawing: whether the first step has been told.
    """

    def __init__(self, claim: Claim, ledger: Ledger) -> None:
        self._claim, self._ledger = claim, ledger
        self.drawing = False
        self._lines: list[tuple[str, str]] = []
        self._next = 0.0
        self._closed = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    def add(self, level: str, message: str) -> None:
        self._lines.append((level, message))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())

    async def close(self) -> None:
        """Write what is left."""
        self._closed.set()
        if self._writer is not None:
            await self._writer

    async def _write(self) -> None:
        while self._lines:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._next):
                    await self._closed.wait()
            self._next = asyncio.get_running_loop().time() + LOG_INTERVAL_S
            lines, self._lines = self._lines, []
            try:
                await self._ledger.log(self._claim, lines)
            except Exception:
                logger.exception("log lines of request %s are lost", self._claim.work.request_id)


async def _draw(claim: Claim, ledger: Ledger, runner: Runner, log: RequestLog) -> tuple[Answer, Sequence[str]]:
    """The answer, and the keys of the files that it names."""
    async with _closing(runner.run(claim.work)) as events:
        async for event in events:
            match event:
                case Step(step, steps):
                    if not log.drawing and not await patiently(lambda: ledger.running(claim)):
                        raise LostClaim(claim.work.request_id)
                    log.drawing = True
                    log.add("INFO", f"Sampling step {step}/{steps}")
                case Finished():
                    answer = Answer(200, ENDPOINTS[claim.work.endpoint].result(claim.work, event))
                    files = f"{claim.work.base_url}{FILES}"
                    urls = (image.url for image in event.images)
                    return answer, [url.removeprefix(files) for url in urls if url.startswith(files)]
    raise PlatformError("runner_incomplete_response", "The run ended without a result.")


async def _finish(
    claim: Claim, ledger: Ledger, log: RequestLog, outcome: Outcome, answer: Answer, media: Sequence[str] = ()
) -> bool:
    await log.close()
    return await patiently(lambda: ledger.finish(claim, outcome, answer, media))


@asynccontextmanager
async def _closing(events: AsyncIterator[Step | Finished]) -> AsyncIterator[AsyncIterator[Step | Finished]]:
    try:
        yield events
    finally:
        close = getattr(events, "aclose", None)  # generators have it, other iterators need not
        if close is not None:
            await close()


async def _uninterrupted(writing: Coroutine[Any, Any, T]) -> T:
    """Await `writing` to its end even when this task is cancelled meanwhile; then the cancellation goes on."""
    task = asyncio.create_task(writing)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
