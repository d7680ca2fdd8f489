"""One claimed work, from the claim to its end in the ledger."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic
from typing import TypeVar

from gateway.endpoints import ENDPOINTS, app_of
from gateway.errors import (
    RETRYABLE_PLATFORM,
    ModelError,
    PlatformError,
    ServiceError,
    StoreUnavailable,
    ValidationErrors,
)
from gateway.ledger.models import Answer, Claim, Ledger, Outcome, ReleaseOutcome
from gateway.monitoring.trace import tell
from gateway.retries import AWAY_S, shielded, to_its_end, with_retries
from gateway.work import Delivering, Event, Finished, Note, Placed, Preview, Runner, Step, Waits
from gateway.worker.lease import LeaseKeeper

T = TypeVar("T")

Progress = Step | Preview | Delivering
OnEvent = Callable[[Progress], None]

FIRST_PAUSE_S, LAST_PAUSE_S = 0.25, 8.0  # before a request that lost its runner is in the queue again

logger = logging.getLogger("fooocus.gateway")


class Requeued(Exception):
    """The request is in the queue again, to be tried by whoever claims it next."""


class LeaseLost(Exception):
    """Somebody else has taken or ended the request: whatever its former holder made is dropped."""


@dataclass(slots=True)
class _Run:
    """How far a run is: its first step is made, its pictures are drawn and wait to be delivered."""

    drawing: bool = False
    drawn: bool = False
    began: float = field(default_factory=monotonic)

    @property
    def seconds(self) -> float:
        """Since its claim."""
        return monotonic() - self.began


async def execute(
    claim: Claim,
    ledger: Ledger,
    leases: LeaseKeeper,
    runner: Runner,
    run_timeout_s: float,
    delivery_timeout_s: float | None = None,
    *,
    on_event: OnEvent | None = None,
    on_begun: Callable[[], None] | None = None,
    previews: bool = False,
    counts: Callable[[], Awaitable[bool]] | None = None,
    on_fault: Callable[[PlatformError], None] | None = None,
) -> Answer:
    """Draw a claimed work, with its progress in the ledger, and finish it there; return what was written.

    on_event: hears how far it is. previews: these too. on_begun: told that the ledger holds it as running. counts:
    whether a fault of the infrastructure costs the request an attempt, asked when one comes; a store that is away never
    does. on_fault: told of such a fault, before the request is put back: then it may be claimed at once.

    leases: the owner's, which keeps the lease and writes the log while this draws. A run longer than `run_timeout_s`
    seconds ends in `generation_timeout`, or is a fault of the infrastructure where drawing has not even begun; the time
    in which it `Waits` for somebody with room, who may only be starting, does not count. From `Delivering` on it may
    take `delivery_timeout_s` (None: as long as it takes) before it is such a fault.
    Cancelling the task that runs this cancels the request too; to keep the request, requeue it in the ledger first.
    While its end is written that comes too late: a heartbeat then finds a claim that is no longer held.
    Raises LeaseLost, and Requeued where a fault of the infrastructure leaves it another attempt.
    """
    run = _Run()
    outcome = Outcome.ERROR
    fault: PlatformError | None = None
    media: Sequence[str] = ()
    try:
        if claim.work.inactive and claim.attempt == 1:
            told = ENDPOINTS[claim.work.endpoint].without_effect(claim.work.inactive)
            leases.say(claim, "WARNING", f"Without effect: {told}")
        try:
            async with asyncio.timeout(run_timeout_s) as limit:
                on_drawn = partial(_give_time, limit, delivery_timeout_s)
                answer, media = await _draw(
                    claim, ledger, leases, runner, run, limit, on_drawn, on_event, on_begun, previews
                )
            outcome = Outcome.OK
        except TimeoutError:
            if not limit.expired():
                raise
            if run.drawn:
                fault = PlatformError("runner_connection_timeout", "The pictures were not delivered in time.")
                answer = answer_of(fault)
            elif run.drawing:
                answer = answer_of(ModelError("generation_timeout", "The generation took too long.", status=504))
            else:
                fault = PlatformError("startup_timeout", "No replica began to draw the request in time.")
                answer = answer_of(fault)
    except asyncio.CancelledError:
        if _is_being_cancelled():
            cancelled = answer_of(PlatformError("client_cancelled", "Request was cancelled by the client"))
            if await to_its_end(_finish(claim, ledger, leases, Outcome.CANCELLED, cancelled)):
                how_far = "while it was being drawn" if run.drawing else "before it was drawn"
                tell("ended", claim.queued_s + run.seconds, "ended: cancelled %s", how_far)
            raise
        # the run was cancelled from below, not by whoever runs this
        fault = PlatformError("runner_disconnected", "The run was stopped before it finished.")
        answer = answer_of(fault)
    except LeaseLost:
        raise  # somebody has ended it before it began
    except ServiceError as error:
        answer = answer_of(error)
        if isinstance(error, PlatformError) and error.error_type in RETRYABLE_PLATFORM:
            fault = error
    except Exception:
        logger.exception("request %s failed", claim.work.request_id)
        answer = answer_of(PlatformError("internal_error", "An internal error occurred; the request was not finished."))
    if answer.error is not None:
        leases.say(claim, "ERROR", answer.error)
    if fault is not None and on_fault is not None:
        on_fault(fault)
    if isinstance(fault, StoreUnavailable) or (fault is not None and counts is not None and not await counts()):
        return await _hand_back(claim, ledger, leases)
    if fault is not None:
        return await _put_back(claim, ledger, leases, answer, crashed=run.drawing)
    if not await to_its_end(_finish(claim, ledger, leases, outcome, answer, media)):
        raise LeaseLost(claim.work.request_id)
    return answer


async def _put_back(claim: Claim, ledger: Ledger, leases: LeaseKeeper, answer: Answer, *, crashed: bool) -> Answer:
    """Let a request be tried again after a fault that is not its own, a little later each time.

    A replica that died while it drew the request may have died of it, and the ledger counts such deaths.
    """
    await _pause(claim)
    await shielded(_write_log(claim, ledger, leases))
    return await to_its_end(_retry(claim, ledger, answer, crashed))


async def _retry(claim: Claim, ledger: Ledger, answer: Answer, crashed: bool) -> Answer:
    match await with_retries(lambda: ledger.retry(claim, answer, crashed=crashed), AWAY_S):
        case ReleaseOutcome.QUEUED:
            raise Requeued(claim.work.request_id)
        case ReleaseOutcome.ENDED:  # perhaps not with this fault, but with what its client asked for
            return await _stored(claim, ledger) or answer
        case ReleaseOutcome.LOST:
            raise LeaseLost(claim.work.request_id)


async def _hand_back(claim: Claim, ledger: Ledger, leases: LeaseKeeper) -> Answer:
    """Let a request be tried again after a fault that counts for nothing: a store is away, or this process stops.

    One that may not wait any more has ended instead, and its answer is returned.
    """
    await _pause(claim)
    await shielded(_write_log(claim, ledger, leases))
    return await to_its_end(_requeue(claim, ledger))


async def _requeue(claim: Claim, ledger: Ledger) -> Answer:
    if not await with_retries(lambda: ledger.requeue(claim), AWAY_S):
        raise LeaseLost(claim.work.request_id)
    ended = await _stored(claim, ledger)
    if ended is None:
        raise Requeued(claim.work.request_id)
    return ended


async def _stored(claim: Claim, ledger: Ledger) -> Answer | None:
    return await with_retries(lambda: ledger.answer(claim.work.request_id, app_of(claim.work.endpoint)), AWAY_S)


async def _pause(claim: Claim) -> None:
    await asyncio.sleep(min(FIRST_PAUSE_S * 2.0 ** min(claim.attempt - 1, 10), LAST_PAUSE_S))


def _give_time(limit: asyncio.Timeout, seconds: float | None) -> None:
    limit.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)


@contextmanager
def _standing_still(limit: asyncio.Timeout) -> Iterator[None]:
    """Let a limit not run down meanwhile."""
    clock, when = asyncio.get_running_loop().time, limit.when()
    begun = clock()
    limit.reschedule(None)
    yield
    limit.reschedule(None if when is None else when + clock() - begun)


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


async def _draw(
    claim: Claim,
    ledger: Ledger,
    leases: LeaseKeeper,
    runner: Runner,
    run: _Run,
    limit: asyncio.Timeout,
    on_drawn: Callable[[], None],
    on_event: OnEvent | None,
    on_begun: Callable[[], None] | None,
    previews: bool,
) -> tuple[Answer, Sequence[str]]:
    """The answer, and the keys of the files that it names. run: kept up to date. limit: of the time that it takes."""
    async with _closing(runner.run(claim.work, previews)) as events:
        waiting = ExitStack()
        async for event in events:
            waiting.close()
            if on_event is not None and not isinstance(event, Note | Waits | Placed | Finished):
                on_event(event)
            match event:
                case Step(step, steps):
                    if not run.drawing and not claim.begun:
                        with _standing_still(limit):  # the time that a ledger is away is not the run's
                            if not await with_retries(lambda: ledger.running(claim), AWAY_S):
                                raise LeaseLost(claim.work.request_id)
                    if not run.drawing:
                        tell("running", run.seconds, "running %.3f s after its claim", run.seconds)
                        if on_begun is not None:
                            on_begun()
                    run.drawing = True
                    leases.say(claim, "INFO", f"Sampling step {step}/{steps}")
                case Note(text, level):
                    leases.say(claim, level, text)
                case Waits():
                    waiting.enter_context(_standing_still(limit))
                case Delivering():
                    run.drawn = True
                    on_drawn()
                case Finished():
                    event = replace(event, timings={"queue": claim.queued_s, **event.timings})
                    tell(
                        "delivered", run.seconds, "delivered, pictures: %d; %s", len(event.images), _told(event.timings)
                    )
                    answer = Answer(200, ENDPOINTS[claim.work.endpoint].result(claim.work, event))
                    return answer, [image.key for image in event.images if image.key is not None]
    raise PlatformError("runner_incomplete_response", "The run ended without a result.")


def _told(timings: Mapping[str, float]) -> str:
    return ", ".join(f"{stage} {seconds:.3f} s" for stage, seconds in timings.items())


async def _finish(
    claim: Claim, ledger: Ledger, leases: LeaseKeeper, outcome: Outcome, answer: Answer, media: Sequence[str] = ()
) -> bool:
    lines = leases.drain(claim)
    return await with_retries(lambda: ledger.finish(claim, outcome, answer, media, lines), AWAY_S)


async def _write_log(claim: Claim, ledger: Ledger, leases: LeaseKeeper) -> None:
    try:
        await ledger.log(claim, leases.drain(claim))
    except Exception:
        logger.exception("log lines of request %s are lost", claim.work.request_id)


@asynccontextmanager
async def _closing(events: AsyncIterator[Event]) -> AsyncIterator[AsyncIterator[Event]]:
    try:
        yield events
    finally:
        close = getattr(events, "aclose", None)  # generators have it, other iterators need not
        if close is not None:
            await close()


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
