"""The events of running requests, on their way from the dispatcher to the gateways whose clients wait for them."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Protocol
from uuid import uuid4

from gateway.keys.base import Caller
from gateway.latest import Latest
from gateway.ledger.models import Answer, AtOnce, Claim, Ledger, Place, State
from gateway.monitoring.trace import begin_apart
from gateway.rate_limited_log import RateLimitedLog
from gateway.work import Preview, Step
from gateway.worker.capacity import Room
from gateway.worker.overview import Overview


@dataclass(frozen=True, slots=True)
class Ended:
    """The request has ended. answer: as the ledger has it too; None where it is to be read there."""

    answer: Answer | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Gone:
    """Nobody knows the request any more: somebody has deleted it."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """The service stops: what has not ended by now will not be drawn for a client that waits."""


RunEvent = Step | Preview | Ended | Gone | Stopping


LatestEvents = Latest[RunEvent]
PASSING = (Step, Preview)  # of which the newest alone is news

POLL_S = 1.0  # for how long a poll is held; a dispatcher that stops waits for no poll longer than this
POLLS_HELD = 8  # of a listener; one more is answered at once, for Serve lets a replica have so many calls
SILENT_S = 10.0  # a listener that has not polled for so long is gone

Events = Sequence[tuple[str, RunEvent]]
Submitted = tuple[str, Claim | None]
"""A run that is in the ledger: held by the claim that its place gave it, or else it waits there."""
Changed = Set[str] | None


@dataclass(frozen=True, slots=True)
class FreePlaces:
    """That a dispatcher has `free` places, each for a run that may begin at once, and so is born held by `owner`.

    It is no promise: a run that comes when they are taken is put back, and waits for its turn. of_key: how many of a
    key may be held, where its own limit does not say; None: any.
    """

    owner: str
    lease_s: float
    free: int
    of_key: int | None = None


@dataclass(frozen=True, slots=True)
class News:
    """The answer to a poll. places: None where what is submitted has to wait for its turn."""

    events: Events
    places: FreePlaces | None = None


class DispatcherLink(Protocol):
    """The dispatcher as a gateway reaches it. Every method may fail: then the ledger alone tells how a run goes."""

    async def poll(
        self, listener: str, number: int, runs: Mapping[str, bool], submitted: Sequence[Submitted] = ()
    ) -> News:
        """Draw what is `submitted`. What happened since the last poll, as soon as anything has or after `POLL_S`.

        number: greater with each poll; of several under way one is answered. runs: all that `listener` follows, with
        whether it wants their steps and previews too, and not their ends alone; others of its runs are forgotten.
        """

    async def watch(self, listener: str) -> Changed:
        """The ids of the requests that changed since `listener` last asked, as soon as any has or after `POLL_S`.

        None where the dispatcher does not know it, for then any may have changed.
        """

    async def wake(self) -> None:
        """Look for waiting requests now."""

    async def hear(self, request_id: str) -> None:
        """A request was cancelled or abandoned: look for such now, and tell who watches."""

    async def room(self) -> Room:
        """What there is to draw with, from a dispatcher that works."""

    async def overview(self) -> Overview:
        """All that it knows of itself and of who draws, for operators."""


class _Box:
    """What one listener has not fetched yet. turn: held by the one of its polls that is answered next."""

    def __init__(self, now: float) -> None:
        self.runs: dict[str, LatestEvents] = {}
        self.progress: set[str] = set()
        self.filled, self.turn = asyncio.Event(), asyncio.Lock()
        self.polls = 0
        self.polled_at = now
        self._newest = -1

    def keep(self, number: int, runs: Mapping[str, bool]) -> None:
        """Follow `runs` and nothing else, unless a newer poll has come before this one."""
        if number < self._newest:
            return
        self._newest = number
        self.runs = {request_id: self.runs.get(request_id) or Latest(PASSING) for request_id in runs}
        self.progress = {request_id for request_id, progress in runs.items() if progress}

    def take(self) -> Events:
        """All that is new."""
        self.filled.clear()
        return [(request_id, event) for request_id, events in self.runs.items() for event in events.take()]


class _Changes:
    """Which requests changed since one listener last asked."""

    def __init__(self, now: float) -> None:
        self.ids: set[str] = set()
        self.filled = asyncio.Event()
        self.polled_at = now


class Broadcast:
    """The dispatcher's side: keeps the newest events for each listener until it fetches them. clock: seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._boxes: dict[str, _Box] = {}
        self._changes: dict[str, _Changes] = {}
        self._stopping = False

    def follow(self, listener: str, number: int, runs: Mapping[str, bool]) -> None:
        """Keep the events of `runs` for `listener`, from now on, as `DispatcherLink.poll` says."""
        box = self._box(listener)
        box.keep(number, runs)
        self._tell_of_stop(box)

    def wants_previews(self, request_id: str) -> bool:
        """Whether anybody follows the request who wants them."""
        return any(request_id in box.progress for box in self._boxes.values())

    def publish(self, request_id: str, event: RunEvent) -> None:
        """Tell whoever follows the request."""
        is_progress = isinstance(event, Step | Preview)
        for box in self._boxes.values():
            if is_progress and request_id not in box.progress:
                continue
            if (events := box.runs.get(request_id)) is not None:
                events.put(event)
                box.filled.set()

    def changed(self, request_id: str) -> None:
        """Tell whoever watches statuses that the ledger holds something new of a request."""
        self._forget_silent(self._changes)
        for changes in self._changes.values():
            changes.ids.add(request_id)
            changes.filled.set()

    async def watch(self, listener: str, timeout_s: float = POLL_S) -> Changed:
        """See `DispatcherLink.watch`."""
        self._forget_silent(self._changes)
        if (changes := self._changes.get(listener)) is None:
            self._changes[listener] = _Changes(self._clock())
            return None
        changes.polled_at = self._clock()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await changes.filled.wait()
        changes.filled.clear()
        changes.polled_at = self._clock()
        found, changes.ids = changes.ids, set()
        return found

    def stop(self) -> None:
        """Tell every listener that the service stops, of every run that it follows or will follow."""
        self._stopping = True
        for box in self._boxes.values():
            self._tell_of_stop(box)

    async def events(self, listener: str, timeout_s: float = POLL_S) -> Events:
        """What happened to the runs that `listener` follows, as soon as anything has."""
        box = self._box(listener)
        box.polls += 1
        try:
            async with asyncio.timeout(timeout_s if box.polls <= POLLS_HELD else 0), box.turn:
                await box.filled.wait()
        except TimeoutError:
            pass  # nothing has happened, which is an answer too
        finally:
            box.polls -= 1
        box.polled_at = self._clock()
        return box.take()

    def _tell_of_stop(self, box: _Box) -> None:
        if self._stopping and box.runs:
            for events in box.runs.values():
                events.put(Stopping())
            box.filled.set()

    def _box(self, listener: str) -> _Box:
        now = self._clock()
        self._forget_silent(self._boxes)
        box = self._boxes.setdefault(listener, _Box(now))
        box.polled_at = now
        return box

    def _forget_silent(self, listeners: dict[str, _Box] | dict[str, _Changes]) -> None:
        oldest = self._clock() - SILENT_S
        for name in [name for name, one in listeners.items() if one.polled_at < oldest]:
            del listeners[name]


FOLLOW_S = 1.0  # for how long a run waits for the dispatcher to take notice of it
CHECK_S = 2.0  # between two questions to the ledger
PAUSE_S = 0.5  # before a dispatcher that did not answer is asked again

logger = logging.getLogger("fooocus.gateway")


class Follower:
    """The runs whose clients wait at this process: polls of the dispatcher that tell of all of them, and one lease.

    What tells of a run that is submitted is a poll too, so that a short run costs one call. The ledger is asked for
    them now and then too, in one query, for a dispatcher that is lost says nothing.

    name: what the ledger and the dispatcher know this process by. Belongs to one event loop.
    """

    def __init__(self, link: DispatcherLink, ledger: Ledger, lease_s: float) -> None:
        self.name = f"gateway-{uuid4().hex}"
        self.lease_s = lease_s
        self._link, self._ledger = link, ledger
        self._log = RateLimitedLog(logger)
        self._events: dict[str, LatestEvents] = {}
        self._progress: dict[str, bool] = {}
        self._in_ledger: set[str] = set()
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._places: FreePlaces | None = None
        self._submitted: list[Submitted] = []
        self._polls: set[asyncio.Task[None]] = set()
        self._number = 0  # of the last poll

    @contextmanager
    def follow(self, request_id: str, progress: bool) -> Iterator[LatestEvents]:
        """The events of a request while a client waits for it, once it is `submitted`; none of them come while the
        dispatcher is away. progress: also its steps and previews, not the end alone.
        """
        self._events[request_id], self._progress[request_id] = Latest(PASSING), progress
        for name, loop in (("listen", self._listen), ("check", self._check)):
            if name not in self._loops or self._loops[name].done():
                self._loops[name] = begin_apart(loop(), f"following-{name}")
        try:
            yield self._events[request_id]
        finally:
            del self._events[request_id], self._progress[request_id]
            self._in_ledger.discard(request_id)

    def place(self, caller: Caller) -> Place | None:
        """A place that a run of the caller may take; None where the dispatcher has last said that there is none."""
        places = self._places
        if places is None or places.free <= 0:
            return None
        self._places = replace(places, free=places.free - 1)
        own = caller.limits.concurrency
        return Place(places.owner, places.lease_s, AtOnce(places.of_key, {} if own is None else {caller.key: own}))

    def submitted(self, request_id: str, claim: Claim | None) -> None:
        """Tell the dispatcher that the run is in the ledger.

        Where it does not hear, it finds the run there at its next look; what is held by `claim` is put back for that.
        """
        if request_id in self._events:
            self._in_ledger.add(request_id)
        self._submitted.append((request_id, claim))
        if len(self._submitted) == 1:  # what one commit has brought goes with one call
            asyncio.get_running_loop().call_soon(self._begin_poll)

    async def hear(self, request_id: str) -> None:
        """Tell the dispatcher of what was abandoned. Where it does not hear it looks by itself, a little later."""
        with suppress(Exception):
            async with asyncio.timeout(FOLLOW_S):
                await self._link.hear(request_id)

    def _begin_poll(self) -> None:
        submitted, self._submitted = self._submitted, []
        poll = begin_apart(self._poll(submitted), "following-poll")
        self._polls.add(poll)
        poll.add_done_callback(self._polled)

    def _polled(self, poll: asyncio.Task[None]) -> None:
        self._polls.discard(poll)
        if self._events and not self._polls:
            self._begin_poll()

    async def _poll(self, submitted: Sequence[Submitted]) -> None:
        self._number += 1
        try:
            news = await self._link.poll(self.name, self._number, dict(self._progress), submitted)
        except (Exception, asyncio.CancelledError) as error:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            logger.info("the dispatcher does not answer: %s", type(error).__name__)
            self._places = None
            claims = [claim for _, claim in submitted if claim is not None]
            # what fails here its young lease brings back
            await asyncio.gather(*map(self._ledger.requeue, claims), return_exceptions=True)
            await asyncio.sleep(PAUSE_S)
            return
        self._places = news.places
        for request_id, event in news.events:
            if (events := self._events.get(request_id)) is not None:
                events.put(event)
        if any(isinstance(event, Stopping) for _, event in news.events):
            await asyncio.sleep(PAUSE_S)  # it says so at every poll, until the runs are told

    async def _check(self) -> None:
        asked: list[str] = []  # who was there at the last check: short runs cost the ledger nothing
        while self._events:
            await asyncio.sleep(CHECK_S)
            # what is on its way into the ledger may take longer than this, and is not gone for that
            asked, before = [*self._in_ledger], asked
            if not (old := [request_id for request_id in before if request_id in self._in_ledger]):
                continue
            try:
                found = await self._ledger.statuses(old)
            except Exception as error:
                self._log.warning("the ledger does not tell how runs go: %s", error)
                continue
            for request_id in old:
                status, events = found.get(request_id), self._events.get(request_id)
                if events is not None and (status is None or status.state is State.DONE):
                    events.put(Gone() if status is None else Ended())

    async def _listen(self) -> None:
        while self._events:
            await asyncio.sleep(self.lease_s / 3)
            try:
                if self._events:
                    await self._ledger.listen(self.name, self.lease_s, [*self._events])
            except Exception as error:
                self._log.warning("the ledger does not hear that this gateway listens: %s", error)


class Waker:
    """Wakes the dispatcher for what was submitted, in the background: one call under way, and one more for all that
    came meanwhile. Where it does not hear it looks by itself, a little later. Belongs to one event loop.
    """

    def __init__(self, link: DispatcherLink) -> None:
        self._link = link
        self._waking: asyncio.Task[None] | None = None
        self._again = False

    def wake(self) -> None:
        """Let the dispatcher look for waiting requests soon."""
        if self._waking is not None and not self._waking.done():
            self._again = True
        else:
            self._waking = begin_apart(self._wake(), "waking")

    async def _wake(self) -> None:
        self._again = True
        while self._again:
            self._again = False
            with suppress(Exception):
                async with asyncio.timeout(FOLLOW_S):
                    await self._link.wake()
