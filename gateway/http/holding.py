"""Status polls that are held for a moment: what a replica does when it is polled more often than it should be."""

import time
from collections import OrderedDict
from collections.abc import Callable

from gateway.ledger.base import State, Status
from gateway.watching import Watching

MAX_HOLD_S = 1.0
REMEMBERED = 10_000  # requests whose last answer is remembered

Seen = tuple[bool, int | None, int]


class PollRate:
    """Counts polls against a rate: `over` once more came within a second than it allows."""

    def __init__(self, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._clock = per_s, clock
        self._most = max(1.0, per_s)
        self._free, self._at = self._most, clock()

    def over(self) -> bool:
        """Count one poll; whether it is one too many."""
        now = self._clock()
        self._free = min(self._most, self._free + (now - self._at) * self._per_s)
        self._at = now
        if self._free < 1:
            return True
        self._free -= 1
        return False


class Holding:
    """Answers status polls: at once below the rate, above it when there is something new, at most a second later.

    A client that hears later also asks later, so that the polls of a replica come down to about one a second of each
    client. What nobody has been told yet, and what is done, is never held.
    """

    def __init__(self, watching: Watching, rate: PollRate) -> None:
        self._watching, self._rate = watching, rate
        self._told: OrderedDict[str, Seen] = OrderedDict()

    async def settled(self, status: Status, with_logs: bool) -> Status:
        """`status`, which was just read, or the one that followed it."""
        if self._rate.over() and self._told.get(status.request_id) == _seen(status, with_logs):
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
