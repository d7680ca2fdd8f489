"""The events of running requests, on their way from the dispatcher to the gateways whose clients wait for them."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Protocol
from uuid import uuid4

from gateway.latest import Latest
from gateway.ledger.models import Ledger
from gateway.rate_limited_log import RateLimitedLog
from gateway.work import Preview, Step


@dataclass(frozen=True, slots=True)
class Ended:
    """The request has ended; its answer is in the ledger."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """The service stops: what has not ended by now will not be drawn for a client that waits."""


RunEvent = Step | Preview | Ended | Stopping


LatestEvents = Latest[RunEvent]
PASSING = (Step, Preview)  # of which the newest alone is news

POLL_S = 1.0  # for how long a poll is held; a dispatcher that stops waits for no poll longer than this
SILENT_S = 10.0  # a listener that has not polled for so long is gone

News = Sequence[tuple[str, RunEvent]]


class DispatcherLink(Protocol):
    """The dispatcher as a gateway reaches it. Every method may fail: then the ledger alone tells how a run goes."""

    async def follow(self, listener: str, request_id: str, previews: bool) -> None:
        """Keep the events of a request for `listener`, from now on. previews: it also wants these."""

    async def poll(self, listener: str, runs: Mapping[str, bool]) -> News:
        """What happened since the last poll, as soon as anything has or after `POLL_S`.

        runs: all that `listener` follows, with whether it wants previews; others of its runs are forgotten.
        """

    async def wake(self) -> None:
        """Look for waiting requests now."""

    async def hear(self) -> None:
        """Look for cancelled and abandoned requests now."""


class _Box:
    """What one listener has not fetched yet. fresh: runs that came since its last poll, which need not name them."""

    def __init__(self, now: float) -> None:
        self.runs: dict[str, LatestEvents] = {}
        self.previews: set[str] = set()
        self.fresh: set[str] = set()
        self.filled = asyncio.Event()
        self.polled_at = now

    def add(self, request_id: str, previews: bool) -> None:
        self.runs.setdefault(request_id, Latest(PASSING))
        if previews:
            self.previews.add(request_id)

    def keep(self, runs: Mapping[str, bool]) -> None:
        """Follow `runs` and what is fresh, and nothing else."""
        for request_id in self.runs.keys() - runs.keys() - self.fresh:
            del self.runs[request_id]
        self.fresh.clear()
        for request_id, previews in runs.items():
            self.add(request_id, previews)
        self.previews &= self.runs.keys()


class Broadcast:
    """The dispatcher's side: keeps the newest events for each listener until it fetches them. clock: seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._boxes: dict[str, _Box] = {}
        self._stopping = False

    def follow(self, listener: str, request_id: str, previews: bool) -> None:
        """See `DispatcherLink.follow`."""
        box = self._box(listener)
        box.add(request_id, previews)
        box.fresh.add(request_id)
        self._tell_of_stop(box)

    def wants_previews(self, request_id: str) -> bool:
        """Whether anybody follows the request who wants them."""
        return any(request_id in box.previews for box in self._boxes.values())

    def publish(self, request_id: str, event: RunEvent) -> None:
        """Tell whoever follows the request."""
        for box in self._boxes.values():
            if (events := box.runs.get(request_id)) is not None:
                events.put(event)
                box.filled.set()

    def stop(self) -> None:
        """Tell every listener that the service stops, of every run that it follows or will follow."""
        self._stopping = True
        for box in self._boxes.values():
            self._tell_of_stop(box)

    async def poll(self, listener: str, runs: Mapping[str, bool], timeout_s: float = POLL_S) -> News:
        """See `DispatcherLink.poll`."""
        box = self._box(listener)
        box.keep(runs)
        self._tell_of_stop(box)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await box.filled.wait()
        box.filled.clear()
        box.polled_at = self._clock()
        return [(request_id, event) for request_id, events in box.runs.items() for event in events.take()]

    def _tell_of_stop(self, box: _Box) -> None:
        if self._stopping and box.runs:
            for events in box.runs.values():
                events.put(Stopping())
            box.filled.set()

    def _box(self, listener: str) -> _Box:
        now = self._clock()
        for name, box in [*self._boxes.items()]:
            if box.polled_at < now - SILENT_S:
                del self._boxes[name]
        box = self._boxes.setdefault(listener, _Box(now))
        box.polled_at = now
        return box


FOLLOW_S = 1.0  # for how long a run waits for the dispatcher to take notice of it
PAUSE_S = 0.5  # before a dispatcher that did not answer is asked again

logger = logging.getLogger("fooocus.gateway")


class Follower:
    """The runs whose clients wait at this process: one poll of the dispatcher and one lease for all of them.

    name: what the ledger and the dispatcher know this process by. Belongs to one event loop.
    """

    def __init__(self, link: DispatcherLink, ledger: Ledger, lease_s: float) -> None:
        self.name = f"gateway-{uuid4().hex}"
        self.lease_s = lease_s
        self._link, self._ledger = link, ledger
        self._log = RateLimitedLog(logger)
        self._events: dict[str, LatestEvents] = {}
        self._previews: dict[str, bool] = {}
        self._loops: dict[str, asyncio.Task[None]] = {}

    @contextmanager
    def follow(self, request_id: str, previews: bool) -> Iterator[LatestEvents]:
        """The events of a request while a client waits for it; none of them come while the dispatcher is away."""
        self._events[request_id], self._previews[request_id] = Latest(PASSING), previews
        for name, loop in (("poll", self._poll), ("listen", self._listen)):
            if name not in self._loops or self._loops[name].done():
                self._loops[name] = asyncio.create_task(loop(), name=f"following-{name}")
        try:
            yield self._events[request_id]
        finally:
            del self._events[request_id], self._previews[request_id]

    async def announce(self, request_id: str) -> None:
        """Tell the dispatcher of a run that is about to be submitted, so that none of its events is missed."""
        with suppress(Exception):
            async with asyncio.timeout(FOLLOW_S):
                await self._link.follow(self.name, request_id, self._previews[request_id])

    async def wake(self) -> None:
        """Let the dispatcher look for what waits. Where it does not hear it looks by itself, a little later."""
        with suppress(Exception):
            async with asyncio.timeout(FOLLOW_S):
                await self._link.wake()

    async def hear(self) -> None:
        """Let the dispatcher look for what was cancelled. Where it does not hear it looks by itself, a little later."""
        with suppress(Exception):
            async with asyncio.timeout(FOLLOW_S):
                await self._link.hear()

    async def _poll(self) -> None:
        while self._events:
            try:
                news = await self._link.poll(self.name, dict(self._previews))
            except Exception as error:
                logger.info("the dispatcher does not answer: %s", type(error).__name__)
                await asyncio.sleep(PAUSE_S)
                continue
            for request_id, event in news:
                if (events := self._events.get(request_id)) is not None:
                    events.put(event)
            if any(isinstance(event, Stopping) for _, event in news):
                await asyncio.sleep(PAUSE_S)  # it says so at every poll, until the runs are told

    async def _listen(self) -> None:
        while self._events:
            await asyncio.sleep(self.lease_s / 3)
            try:
                if self._events:
                    await self._ledger.listen(self.name, self.lease_s, [*self._events])
            except Exception as error:
                self._log.warning("the ledger does not hear that this gateway listens: %s", error)
