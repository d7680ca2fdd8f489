"""The replicas that draw, by what they report: who lives, how many requests they can hold, which weights they have."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

REPORT_S = 1.0  # between two reports of a replica
STALE_S = 4.0  # a replica that has been silent for so long is gone

log = logging.getLogger("fooocus.gateway")


@dataclass(frozen=True, slots=True)
class Report:
    """What a replica says of itself. capacity: requests that it can hold. variants: names of the weights it has at
    hand, the ones used last at the end."""

    capacity: int
    variants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Room:
    """What there is to draw with: how many replicas live, and how many requests these can hold."""

    replicas: int = 0
    capacity: int = 0


class ReplicaRegistry:
    """Counts the replicas that live, and logs who comes, changes and goes.

    look_ahead: requests beyond what they hold, so that the next ones are prepared meanwhile, and so that demand shows
    where no replica lives. most: in all. clock: seconds.
    """

    def __init__(self, look_ahead: int, most: int, clock: Callable[[], float] = monotonic) -> None:
        self._look_ahead, self._most, self._clock = look_ahead, most, clock
        self._reports: dict[str, tuple[Report, float]] = {}

    def bound(self, look_ahead: int, most: int) -> None:
        """These hold from now on."""
        self._look_ahead, self._most = look_ahead, most

    def report(self, replica: str, capacity: int, variants: Sequence[str] = ()) -> None:
        """A replica lives, can hold `capacity` requests, and has the weights of `variants` at hand."""
        told = Report(capacity, tuple(variants))
        before = self._reports.get(replica)
        if before is None or (before[0].capacity, {*before[0].variants}) != (capacity, {*variants}):
            log.info(
                "replica %s can hold %d requests and has %s", replica, capacity, ", ".join(variants) or "no variant"
            )
        self._reports[replica] = told, self._clock()

    def living(self) -> dict[str, Report]:
        """The last report of each replica that lives."""
        oldest = self._clock() - STALE_S
        for name, (_, at) in [*self._reports.items()]:
            if at < oldest:
                log.warning("replica %s has been silent for %g s; nothing more is meant for it", name, STALE_S)
                del self._reports[name]
        return {name: report for name, (report, _) in self._reports.items()}

    def capacity(self) -> int:
        """How many requests may be held now."""
        return min(self._most, self._look_ahead + sum(report.capacity for report in self.living().values()))

    def room(self) -> Room:
        """What lives now."""
        living = self.living()
        return Room(len(living), sum(report.capacity for report in living.values()))
