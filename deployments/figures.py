"""What the Dispatcher publishes for the policy: the demand, how fast replicas draw, how much comes steadily."""

import math
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from time import monotonic, time
from typing import Any

from deployments.autoscaling import Figures
from gateway.ledger.demand import Demand
from gateway.ledger.models import Priority

WINDOW_S = 60.0  # in which what comes is counted
KEPT_S = 3600.0  # for how long a measured pace is believed
LEAST = 20.0  # row-steps of which a pace is measured at all
FORGOTTEN = 1000.0  # row-steps after which an older one counts half
FULL = math.inf  # the fullness of a replica without room


@dataclass(frozen=True, slots=True)
class Spent:
    """What a replica has drawn since it last said so, in how many seconds of work. live: requests that it draws now.
    The last four: as `pipelines.events.EngineStats` has them."""

    live: int = 0
    calls: int = 0
    rows: int = 0
    row_steps: float = 0.0
    seconds: float = 0.0
    bases_found: int = 0
    bases_built: int = 0
    adapters_found: int = 0
    adapters_built: int = 0

    def __setstate__(self, told: Sequence[Any]) -> None:
        """From the fields in their order; a replica of the version before has fewer."""
        for at, each in enumerate(fields(self)):
            object.__setattr__(self, each.name, told[at] if at < len(told) else each.default)


class Paces:
    """How long a row-step takes at a replica that is full, which tells what replicas can do; until one was, in the
    fullest calls that were seen.

    Emptier calls take longer for each row. Were they believed, more replicas would draw emptier calls still. And the
    fullest calls of a full replica are no more than its best ones: others of it are of few rows, since unlike bases and
    sizes share none. Were those alone believed, there would be too few replicas.
    """

    def __init__(self) -> None:
        self._seen: dict[float, tuple[float, float, float]] = {}  # by the fullness: seconds, row-steps, when last

    def hear(self, spent: Spent, now: float, full: bool = False) -> None:
        """full: whether the replica had no room in that time."""
        if spent.calls <= 0 or spent.rows <= 0 or spent.row_steps <= 0 or spent.seconds <= 0:
            return
        fullness = FULL if full else math.floor(math.log2(max(1.0, spent.rows / spent.calls)))
        seconds, row_steps, _ = self._seen.get(fullness, (0.0, 0.0, now))
        kept = 0.5 ** (spent.row_steps / FORGOTTEN)
        self._seen[fullness] = seconds * kept + spent.seconds, row_steps * kept + spent.row_steps, now

    def ms_per_row_step(self, now: float) -> float:
        """0 where none is known."""
        for fullness in sorted(self._seen, reverse=True):
            seconds, row_steps, at = self._seen[fullness]
            if now - at <= KEPT_S and row_steps >= LEAST:
                return 1000 * seconds / row_steps
        return 0.0


class Arrivals:
    """What comes steadily, in row-steps a second: what both halves of the last minute have had.

    So that a burst, which waits and counts as that, is not taken for the first of many.
    """

    def __init__(self) -> None:
        self._came: deque[tuple[float, float]] = deque()

    def hear(self, row_steps: float, now: float) -> None:
        self._came.append((now, row_steps))
        while self._came[0][0] <= now - WINDOW_S:
            self._came.popleft()

    def per_s(self, now: float) -> float:
        half = WINDOW_S / 2
        later = sum(row_steps for at, row_steps in self._came if now - half < at)
        earlier = sum(row_steps for at, row_steps in self._came if now - WINDOW_S < at <= now - half)
        return min(earlier, later) / half


class Meter:
    """Makes the figures of what the ledger and the replicas say.

    The instants of `hear` and `figures` are by a monotonic clock; `at` among the figures is the time of day.
    """

    def __init__(self) -> None:
        self._paces, self._arrivals = Paces(), Arrivals()
        self._live: dict[str, int] = {}
        self._full: set[str] = set()  # who was when it last said anything
        self.newest: int | None = None

    def hear(self, replica: str, spent: Spent, full: bool = False) -> None:
        """A replica says what it has drawn. full: whether it has no room now."""
        self._live[replica] = spent.live
        self._paces.hear(spent, monotonic(), full and replica in self._full)
        (self._full.add if full else self._full.discard)(replica)

    def figures(self, demand: Demand, living: Collection[str], room: int) -> Figures:
        """Of a demand that was asked for behind `newest`. living: names of the replicas that do. room: requests more
        that would be placed at once."""
        now, self.newest = monotonic(), demand.newest
        self._live = {name: live for name, live in self._live.items() if name in living}
        self._full &= {*living}
        self._arrivals.hear(demand.arrived_row_steps, now)
        normal, low = demand.waits(Priority.NORMAL), demand.waits(Priority.LOW)
        return Figures(
            queued_row_steps=normal.row_steps + low.row_steps,
            queued_low_row_steps=low.row_steps,
            held_row_steps=demand.claimed_row_steps + demand.running_row_steps,
            claimed_row_steps=demand.claimed_row_steps,
            waiting=float(normal.number + low.number),
            held=float(demand.held),
            oldest_wait_s=normal.oldest_s,
            arriving_row_steps_per_s=self._arrivals.per_s(now),
            ms_per_row_step=self._paces.ms_per_row_step(now),
            living=float(len(living)),
            busy=float(sum(live > 0 for live in self._live.values())),
            room=float(room),
            at=time(),
        )
