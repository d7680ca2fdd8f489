"""The dispatcher's loop: claims what waits, runs it, keeps its leases, hears cancellations."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic

from gateway.errors import PlatformError, StoreUnavailable
from gateway.ledger.models import AtOnce, Claim, Ledger
from gateway.monitoring.contract import BEAT_SECONDS, BEATS, REQUEUED, STORE_ERRORS, WAIT
from gateway.monitoring.monitor import Monitor, NoMonitor
from gateway.monitoring.trace import begin_apart, follow, tell
from gateway.retries import with_retries
from gateway.settings import GatewaySettings
from gateway.work import Delivering, Runner
from gateway.worker.events import Broadcast, Ended, FreePlaces
from gateway.worker.executor import LeaseLost, Progress, Requeued, answer_of, execute
from gateway.worker.lease import LeaseKeeper
from gateway.worker.places import Places
from gateway.worker.reaper import Reaper

FIRST_RETRY_S = 0.2
LAST_RETRY_S = 5.0
YOUNG_LEASE_S = 5.0  # of a run that was born running, until the first heartbeat of who was told of it
UNWRITTEN = answer_of(PlatformError("internal_error", "The end of the request could not be written."))

logger = logging.getLogger("fooocus.gateway")


@dataclass(slots=True)
class _Held:
    """begun: whether a replica draws it."""

    claim: Claim
    task: asyncio.Task[None]
    begun: bool = False


class DispatchLoop:
    """Runs the ledger's queue through `runner`. owner: a name that no other dispatcher has or had.

    capacity: how many requests may be held now. at_once: how many of a key; of_key: where its own limit does not say.
    broadcast: who listens to runs hears of them there. may_begin: nothing is begun where it says no, as while it could
    not be drawn or delivered. is_leaving: whether the whole service is being stopped, so that runners which are lost
    are nobody's fault. on_end: told whenever a request has ended, which may owe a webhook. monitor: counts what happens
    here. places: hears what is held, and where the runner gives places there, says when more may be.

    Failures of one request stay its own, and failures of the ledger delay but never end the loop.
    """

    def __init__(
        self,
        ledger: Ledger,
        runner: Runner,
        settings: GatewaySettings,
        owner: str,
        capacity: Callable[[], int],
        at_once: Callable[[], Awaitable[AtOnce]] | None = None,
        broadcast: Broadcast | None = None,
        may_begin: Callable[[], Awaitable[bool]] | None = None,
        is_leaving: Callable[[], Awaitable[bool]] | None = None,
        on_end: Callable[[], None] | None = None,
        of_key: Callable[[], int | None] = lambda: None,
        monitor: Monitor | None = None,
        places: Places | None = None,
    ) -> None:
        self._monitor = monitor or NoMonitor()
        self._ledger, self._runner, self._settings, self._owner = ledger, runner, settings, owner
        self._capacity, self._at_once, self._of_key = capacity, at_once, of_key
        self._broadcast = broadcast or Broadcast()
        self._may_begin, self._is_leaving, self._on_end = may_begin, is_leaving, on_end
        self._reaper = Reaper(ledger, settings.lease_s, monitor=self._monitor)
        self._leases = LeaseKeeper(ledger, owner, settings.lease_s)
        self._held: dict[str, _Held] = {}
        self._stranded: list[Callable[[], Awaitable[object]]] = []
        self._claiming = asyncio.Lock()
        self._draining = False
        self._stopped = asyncio.Event()
        self._may_wait, self._may_be_cancelled, self._is_stranded = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._some_wait = False  # whether somebody said so since the last look
        self._left_some = True  # whether more may wait than there was room for
        self._places = places
        if places is not None:
            places.tell(self._look_again)

    def wake(self) -> None:
        """Look now for requests that wait: some do."""
        self._some_wait = True
        self._may_wait.set()

    def hear(self, request_id: str) -> None:
        """A request was cancelled or abandoned by somebody else: look now, and tell who should know."""
        if request_id in self._held or self._claiming.locked():  # what is just being claimed may be meant
            self._may_be_cancelled.set()
        self._tell_of_end(request_id)

    def free_places(self) -> FreePlaces | None:
        """The places that gateways may give to what they submit; None where there are none, or others take them."""
        if self._draining or self._some_wait:
            return None
        free = self._free()
        if self._places is not None:
            free = min(free, self._places.room())  # what would wait does so as others do
        if free <= 0:
            return None
        return FreePlaces(self._owner, min(YOUNG_LEASE_S, self._settings.lease_s), free, self._of_key())

    async def submitted(self, request_id: str, claim: Claim | None) -> None:
        """Draw the run, which the ledger holds by `claim` in one of our places; without one, look for what waits."""
        if claim is None:
            self.wake()
        elif not await self._has_place(claim):
            if self._stopped.is_set():  # nobody puts back here what is stranded
                with suppress(StoreUnavailable):  # its young lease brings it back
                    await self._ledger.requeue(claim)
            else:  # not waited for: others of the same call are drawn already
                self._strand(partial(self._ledger.requeue, claim))
        elif (held := self._held.get(request_id)) is None or held.claim.attempt < claim.attempt:
            self._start(claim)

    async def _has_place(self, claim: Claim) -> bool:
        """Not for what the dispatcher before this one would have held, nor where others were faster."""
        may = self._may_begin is None or await self._may_begin()
        room = self._places is None or self._places.room() > 0
        return may and not self._draining and claim.owner == self._owner and self._free() > 0 and room

    async def run(self) -> None:
        """Run until `stop` has done its work. When this is cancelled instead, what is held is put back at once."""
        try:
            async with asyncio.TaskGroup() as loops:
                loops.create_task(self._every(self._settings.tick_s, self._claim, self._may_wait))
                loops.create_task(self._every(self._settings.tick_s, self._put_back_stranded, self._is_stranded))
                loops.create_task(self._every(self._settings.beat_s, self._beat, self._may_be_cancelled))
                loops.create_task(self._every(self._reaper.period_s, self._reap))
        finally:
            await self._put_back([*self._held.values()])

    async def stop(self, grace_s: float | None = None, *, for_good: bool = False) -> None:
        """Claim nothing more, put back at once what nobody draws yet, let the rest finish for `grace_s`, put back what
        is left, and end `run`.

        grace_s: `stop_grace_s` where it is not given. for_good: nobody takes over, so clients that wait are told first.
        """
        self._draining = True
        if for_good:
            self._broadcast.stop()
        async with self._claiming:  # a claim under way becomes held first
            await self._put_back([held for held in self._held.values() if not held.begun])
        if drawn := [held.task for held in self._held.values()]:
            await asyncio.wait(drawn, timeout=self._settings.stop_grace_s if grace_s is None else grace_s)
        await self._put_back([*self._held.values()])
        self._stopped.set()
        for event in (self._may_wait, self._may_be_cancelled, self._is_stranded):
            event.set()

    async def _every(
        self, period: float, action: Callable[[], Awaitable[None]], now: asyncio.Event | None = None
    ) -> None:
        failures = 0
        while not self._stopped.is_set():
            try:
                await action()
                failures = 0
            except Exception as error:
                logger.exception("the dispatcher could not reach the ledger; it tries again")
                if isinstance(error, StoreUnavailable):
                    self._monitor.add(STORE_ERRORS, store=error.store)
                failures += 1
            # never so long that leases run out meanwhile
            last_s = min(LAST_RETRY_S, self._settings.lease_s / 4)
            pause = min(FIRST_RETRY_S * 2.0 ** min(failures - 1, 10), last_s) if failures else period
            # what failed is not tried again sooner because somebody calls
            waited_for = self._stopped if failures or now is None else now
            with suppress(TimeoutError):
                await asyncio.wait_for(waited_for.wait(), pause)
            if now is not None:
                now.clear()

    async def _claim(self) -> None:
        async with self._claiming:
            free, self._left_some = self._free(), True
            if self._draining or (free <= 0 and not self._lets_others_in()):
                return
            # looking is a read; claiming takes the write lock
            woken, self._some_wait = self._some_wait, False
            if free <= 0:
                if not await self._ledger.waits({one.claim.work.delivery.owner for one in self._held.values()}):
                    return
            elif not woken and not await self._ledger.waits():
                self._left_some = False
                return
            if self._may_begin is not None and not await self._may_begin():
                return
            at_once = AtOnce() if self._at_once is None else await self._at_once()
            if free <= 0:  # whoever has nothing held yet, and so nobody twice
                free, at_once = 1, AtOnce(1)
            claims = await self._ledger.claim(self._owner, free, self._settings.lease_s, at_once)
            self._left_some = len(claims) == free or at_once.limits
            if claims and self._free() <= 0 and self._lets_others_in():
                self._may_wait.set()  # there may be one more of the kind
            for claim in claims:
                self._start(claim)

    def _lets_others_in(self) -> bool:
        """Whether a key that has nothing held may begin although all is full, by the rule of the places."""
        return self._places is not None and self._at_once is not None and len(self._held) < self._settings.capacity

    def _free(self) -> int:
        return self._capacity() - len(self._held)

    def _start(self, claim: Claim) -> None:
        request_id = claim.work.request_id
        if (former := self._held.get(request_id)) is not None:
            former.task.cancel()  # its lease was lost, and the request has come back as a new attempt
        if self._places is not None:
            self._places.hold(request_id, claim.attempt, claim.rank)
        task = begin_apart(self._execute(claim))
        self._held[request_id] = _Held(claim, task)
        task.add_done_callback(lambda done: self._forget(claim, done))

    def _forget(self, claim: Claim, done: asyncio.Task[None]) -> None:
        if (held := self._held.get(claim.work.request_id)) is not None and held.task is done:
            del self._held[claim.work.request_id]
            self._look_again()
        if self._places is not None:
            self._places.let_go(claim.work.request_id, claim.attempt)
        if done.cancelled():
            # cancelled before its first step it has written nothing; where it has, this writes nothing
            self._strand(partial(self._ledger.requeue, claim))
            self._broadcast.publish(claim.work.request_id, Ended())
        self._tell_of_end(claim.work.request_id)

    async def _execute(self, claim: Claim) -> None:
        request_id, endpoint = claim.work.request_id, claim.work.endpoint
        follow(claim.trace)
        tell("claimed", claim.queued_s, "claimed after %.3f s", claim.queued_s)
        self._monitor.span("queue", claim.trace, claim.queued_s)
        self._monitor.observe(WAIT, claim.queued_s, endpoint=endpoint, priority=claim.priority.name.lower())
        began = monotonic()
        timeout_s, previews = self._settings.run_timeout_s, self._broadcast.wants_previews(request_id)
        try:
            answer = await execute(
                claim,
                self._ledger,
                self._leases,
                self._runner,
                timeout_s,
                self._settings.delivery_timeout_s,
                on_event=partial(self._tell, request_id),
                on_begun=partial(self._broadcast.changed, request_id),
                previews=previews,
                counts=self._counts_faults,
                on_fault=partial(self._note_fault, endpoint, began),
            )
            how = "ok" if answer.error_type is None else f"{answer.status} {answer.error_type}"
            tell("ended", claim.queued_s + monotonic() - began, "ended: %s", how)
        except Requeued:
            self.wake()
            return
        except LeaseLost:
            logger.warning("request %s was lost to another owner", claim.work.request_id)
            answer = None
        except Exception:
            logger.exception("the end of request %s could not be written; it is queued again", claim.work.request_id)
            # counted, for it may be this end that no ledger takes
            self._strand(partial(self._ledger.retry, claim, UNWRITTEN))
            return
        self._broadcast.publish(request_id, Ended(answer))

    def _note_fault(self, endpoint: str, began: float, fault: PlatformError) -> None:
        tell("requeued", monotonic() - began, "goes back into the queue: %s", fault, level=logging.WARNING)
        self._monitor.add(REQUEUED, endpoint=endpoint)
        if isinstance(fault, StoreUnavailable):
            self._monitor.add(STORE_ERRORS, store=fault.store)

    def _look_again(self) -> None:
        if self._left_some:
            self._may_wait.set()

    def _tell_of_end(self, request_id: str) -> None:
        self._broadcast.changed(request_id)
        if self._on_end is not None:
            self._on_end()

    async def _counts_faults(self) -> bool:
        return not self._draining and (self._is_leaving is None or not await self._is_leaving())

    def _tell(self, request_id: str, event: Progress) -> None:
        if (held := self._held.get(request_id)) is not None:
            held.begun = True
        if not isinstance(event, Delivering):
            self._broadcast.publish(request_id, event)

    def _strand(self, put_back: Callable[[], Awaitable[object]]) -> None:
        self._stranded.append(put_back)
        self._is_stranded.set()

    async def _put_back_stranded(self) -> None:
        # heartbeats extend every lease of this owner, so a row without a task would be held for ever
        while self._stranded:
            await self._stranded[0]()
            self._stranded.pop(0)
            self.wake()

    async def _beat(self) -> None:
        self._monitor.add(BEATS)
        held = dict(self._held)  # what is claimed during the beat may be missing in its answer
        if not held and not self._stranded:
            return
        said = self._leases.said()
        began = monotonic()
        heard = await self._leases.renew([one.claim for one in held.values()])
        self._monitor.observe(BEAT_SECONDS, monotonic() - began)
        for name in said:
            self._broadcast.changed(name)
        for name, one in held.items():
            lost = heard.held.get(name) != one.claim.attempt
            if (lost or name in heard.cancelled) and not one.task.cancelling():
                one.task.cancel()  # of a lost claim it writes nothing

    async def _reap(self) -> None:
        if await self._reaper.sweep():
            self.wake()

    async def _put_back(self, held: Sequence[_Held]) -> None:
        for one in held:
            try:
                await with_retries(lambda claim=one.claim: self._ledger.requeue(claim))  # type: ignore[misc]
            except Exception:
                # cancelling now would end the request; its lease will bring it back instead
                logger.exception("request %s is left to its lease", one.claim.work.request_id)
            else:
                one.task.cancel()  # writes nothing, for the claim is gone
        await asyncio.gather(*(one.task for one in held if one.task.cancelling()), return_exceptions=True)
