"""fal's six metrics, as its own exporter has them: gauges by app, of now or of the last minute."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.endpoints import ENDPOINTS, app_of
from gateway.ledger.figures import Figures, Over
from gateway.ledger.models import State
from gateway.monitoring.contract import (
    FAL_COMPLETED,
    FAL_CONCURRENT,
    FAL_LATENCY,
    FAL_QUEUE,
    FAL_RECEIVED,
    FAL_RUNNERS,
    SLOW_S,
    Metric,
)

LAST = timedelta(minutes=1)
METHOD = "POST"  # fal does not say what else its label could be; every submit is one
Value = tuple[Metric, float, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Runners:
    """Replicas that draw. alive: that can. pending: that are being started."""

    alive: int = 0
    pending: int = 0


class FalFigures:
    """Makes them of the ledger's figures. machine: the device that pictures are drawn on."""

    def __init__(self, machine: str) -> None:
        self._machine = machine
        self._apps = sorted({app_of(endpoint) for endpoint in ENDPOINTS})
        self._over: deque[Over] = deque()  # of the last minute, by their ends
        self._told: set[tuple[str, str]] = set()  # apps and statuses: a gauge that nobody sets stays what it was

    def values(self, now: datetime, figures: Figures, runners: Runners) -> Iterable[Value]:
        """All of them. figures: with what has ended since the last time."""
        self._over.extend(figures.over)
        while self._over and self._over[0].finished_at <= now - LAST:
            self._over.popleft()
        drawn = sum(one.number for one in figures.going if one.state is State.RUNNING)
        running = min(runners.alive, drawn)  # each draws many at once, so perhaps fewer
        states = {"idle": runners.alive - running, "running": running, "pending": runners.pending}
        for app in self._apps:
            over = [one for one in self._over if app_of(one.endpoint) == app]
            yield from self._of_app(app, now, figures, over)
            for state, number in states.items():
                yield FAL_RUNNERS, number, {"application": app, "state": state, "machine_type": self._machine}

    def _of_app(self, app: str, now: datetime, figures: Figures, over: Sequence[Over]) -> Iterable[Value]:
        going = [one for one in figures.going if app_of(one.endpoint) == app]
        waiting = sum(one.number for one in going if one.state is State.QUEUED)
        yield FAL_QUEUE, waiting, {"application": app}
        yield FAL_CONCURRENT, sum(one.number for one in going) - waiting, {"application": app}
        came = sum(one.recent for one in going) + sum(one.created_at > now - LAST for one in over)
        yield FAL_RECEIVED, came, {"application": app, "method": METHOD}
        ended = Counter(str(one.status) for one in over)
        self._told |= {(app, status) for status in ended}
        for status in sorted(status for its, status in self._told if its == app):
            yield FAL_COMPLETED, ended[status], {"application": app, "method": METHOD, "status": status}
        for most in SLOW_S:
            yield FAL_LATENCY, sum(one.seconds <= most for one in over), {"application": app, "le": f"{most:g}"}
        yield FAL_LATENCY, len(over), {"application": app, "le": "+Inf"}
