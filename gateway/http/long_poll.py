"""Who waits for a status: one look into the ledger for all that listen, and polls that are held for a moment."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from uuid import uuid4

from gateway.ledger.models import Ledger, State, Status
from gateway.monitoring.trace import begin_apart
from gateway.worker.events import PAUSE_S, DispatcherLink

PERIOD_S = 0.25  # between two looks at those who move up
RECENT_S = 1.0  # from the reading of a status to the beginning of its watch, at most
TICK_S = 2.0  # after which all are looked at though nothing was heard

logger = logging.getLogger("fooocus.gateway")


class Watch:
    """One listener to one request. status: the newest that is known; None once the request is unknown."""

    def __init__(self, status: Status) -> None:
        self.status: Status | None = status
        self._news = asyncio.Event()

    async def changed(self, timeout_s: float) -> bool:
        """Wait until `status` is another one than at the last call; False when `timeout_s` is over first."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        found = self._news.is_set()
        self._news.clear()
        return found

    def tell(self, status: Status | None) -> None:
        if status != self.status:
            self.status = status
            self._news.set()


class StatusBroadcaster:
    """The listeners of one process. While there are any, the dispatcher says which requests change. Those are looked at
    in the ledger at once, in one query; all others, which may have moved up, at most every `PERIOD_S`; and all of them
    when nothing was heard for `TICK_S`. A failure of the ledger delays what they hear. Belongs to one event loop.
    """

    def __init__(self, ledger: Ledger, link: DispatcherLink) -> None:
        self._ledger, self._link = ledger, link
        self._name = f"watching-{uuid4().hex}"
        self._watches: dict[str, set[Watch]] = {}
        self._changed: set[str] = set()
        self._recent: dict[str, float] = {}  # what changed a moment ago, and when: who comes now may not know it yet
        self._all_at = self._looked_at = 0.0  # when all are to be looked at, and were: times of the loop
        self._news = asyncio.Event()
        self._loops: dict[str, asyncio.Task[None]] = {}

    @contextmanager
    def watch(self, status: Status) -> Iterator[Watch]:
        """Listen to the request of `status`, which has just been read."""
        watch = Watch(status)
        if not self._watches:
            self._all_at = asyncio.get_running_loop().time() + TICK_S
        self._watches.setdefault(status.request_id, set()).add(watch)
        if status.request_id in self._recent:
            self._changed.add(status.request_id)
            self._news.set()
        for name, loop in (("hear", self._hear), ("look", self._look)):
            if name not in self._loops or self._loops[name].done():
                self._loops[name] = begin_apart(loop(), f"watching-{name}")
        try:
            yield watch
        finally:
            others = self._watches[status.request_id]
            others.discard(watch)
            if not others:
                del self._watches[status.request_id]

    async def _hear(self) -> None:
        while self._watches:
            try:
                changed = await self._link.watch(self._name)
            except Exception as error:
                logger.info("the dispatcher does not answer: %s", type(error).__name__)
                await asyncio.sleep(PAUSE_S)
                changed = None
            if changed is None:  # any of them may have
                self._all_at = 0.0
                self._news.set()
            elif changed:
                self.changed(changed)

    def changed(self, ids: Set[str]) -> None:
        """Look at these at once, whoever says that they changed, and soon at those that may have moved up."""
        now = asyncio.get_running_loop().time()
        recent = {name: at for name, at in self._recent.items() if at > now - RECENT_S}
        self._recent = recent | dict.fromkeys(ids, now)
        self._changed |= ids & self._watches.keys()
        if self._watches.keys() - ids:
            self._all_at = min(self._all_at, self._looked_at + PERIOD_S)
        self._news.set()

    async def _look(self) -> None:
        clock = asyncio.get_running_loop().time
        while self._watches:
            now = clock()
            if now >= self._all_at:
                self._looked_at, self._all_at, self._changed = now, now + TICK_S, {*self._watches}
            # who begins to listen meanwhile may know more than this look will find
            asked = {name: tuple(self._watches[name]) for name in self._changed if name in self._watches}
            self._changed = set()
            if asked:
                await self._tell(asked)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._all_at):
                    await self._news.wait()
            self._news.clear()

    async def _tell(self, asked: Mapping[str, Sequence[Watch]]) -> None:
        try:
            found = await self._ledger.statuses([*asked])
        except Exception:
            logger.exception("the ledger did not tell statuses; it is asked again")
            self._all_at = min(self._all_at, asyncio.get_running_loop().time() + PERIOD_S)
            return
        for request_id, watches in asked.items():
            for watch in watches:
                watch.tell(found.get(request_id))


MAX_HOLD_S = 1.0
REMEMBERED = 10_000  # requests whose last answer is remembered

Seen = tuple[bool, int | None, int]


class TokenBucket:
    """Counts polls against a rate: `try_acquire` fails once more came within a second than it allows.

    per_s: asked at each, for it may change.
    """

    def __init__(self, per_s: Callable[[], float], clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._clock = per_s, clock
        self._free, self._at = max(1.0, per_s()), clock()

    def try_acquire(self) -> bool:
        """Count one poll; False where it is one too many."""
        now, per_s = self._clock(), self._per_s()
        self._free = min(max(1.0, per_s), self._free + (now - self._at) * per_s)
        self._at = now
        if self._free < 1:
            return False
        self._free -= 1
        return True


class LongPoll:
    """Answers status polls: at once below the rate, above it when there is something new, at most a second later.

    A client that hears later also asks later, so that the polls of a replica come down to about one a second of each
    client. What nobody has been told yet, and what is done, is never held.
    """

    def __init__(self, watching: StatusBroadcaster, rate: TokenBucket) -> None:
        self._watching, self._rate = watching, rate
        self._told: OrderedDict[str, Seen] = OrderedDict()

    async def wait_for_change(self, status: Status, with_logs: bool) -> Status:
        """`status`, which was just read, or the one that followed it."""
        if not self._rate.try_acquire() and self._told.get(status.request_id) == _seen(status, with_logs):
            status = await self._next(status, with_logs)
        self._told.pop(status.request_id, None)
        if status.state is not State.DONE:
            self._told[status.request_id] = _seen(status, with_logs)
            if len(self._told) > REMEMBERED:
                self._told.popitem(last=False)
        return status

    async def _next(self, status: Status, with_logs: bool) -> Status:
        before, end = _seen(status, with_logs), time.monotonic() + MAX_HOLD_S
        with self._watching.watch(status) as watch:
            while await watch.changed(max(0.0, end - time.monotonic())) and watch.status is not None:
                status = watch.status
                if _seen(status, with_logs) != before:
                    break
        return status


def _seen(status: Status, with_logs: bool) -> Seen:
    """What of a status its client sees."""
    running = status.state is State.RUNNING
    return running, status.position, status.lines if with_logs and running else 0
