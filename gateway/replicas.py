"""How many requests the replicas that draw can hold, by what they report."""

from collections.abc import Callable
from time import monotonic

REPORT_S = 1.0  # between two reports of a replica
STALE_S = 4.0  # a replica that has been silent for so long is gone


class Replicas:
    """Counts the replicas that live. look_ahead: requests beyond what they hold, so that the next ones are prepared
    meanwhile, and so that demand shows where no replica lives. most: in all. clock: seconds.
    """

    def __init__(self, look_ahead: int, most: int, clock: Callable[[], float] = monotonic) -> None:
        self._look_ahead, self._most, self._clock = look_ahead, most, clock
        self._reports: dict[str, tuple[int, float]] = {}

    def report(self, replica: str, capacity: int) -> None:
        """A replica lives, and can hold `capacity` requests."""
        self._reports[replica] = capacity, self._clock()

    def capacity(self) -> int:
        """How many requests may be held now."""
        oldest = self._clock() - STALE_S
        self._reports = {name: report for name, report in self._reports.items() if report[1] >= oldest}
        return min(self._most, self._look_ahead + sum(capacity for capacity, _ in self._reports.values()))
