"""What the ledger tells of itself, asked now and then: queue, ends, webhooks. A request costs nothing for it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from itertools import product
from time import monotonic
from typing import Protocol

from gateway.endpoints import ENDPOINTS
from gateway.ledger.figures import Figures
from gateway.ledger.models import Outcome, Priority, State
from gateway.ledger.store import utc_now
from gateway.metering.fal import LAST, FalFigures, Runners
from gateway.monitoring.contract import (
    CANCELLED_RUNNING,
    DEPTH,
    ENDED,
    HELD,
    OLDEST_WAIT,
    REQUEST_SECONDS,
    WEBHOOKS_OLDEST,
    WEBHOOKS_WAITING,
)
from gateway.monitoring.monitor import Monitor
from gateway.rate_limited_log import RateLimitedLog

EVERY_S = 15.0  # as often as Prometheus mostly asks
NO_ERROR = "none"  # an empty label is none at all
SHARE = 0.02  # of the time that looking may take, however much waits
LAG = timedelta(seconds=2)  # an end is written a little after the moment that it names
MOST_BACK = timedelta(minutes=10)  # that ends are made up for after the ledger was away

logger = logging.getLogger("fooocus.gateway")


class ReadsFigures(Protocol):
    """The part of `gateway.ledger.figures.SqlFigures` that is used."""

    async def read(self, since: datetime, until: datetime, recent: datetime) -> Figures: ...


class LedgerMeter:
    """Reads the figures of a ledger and tells them to a monitor. One process of a service has one.

    fal: None leaves fal's metrics out. runners: how many replicas draw, asked each time.
    """

    def __init__(
        self,
        figures: ReadsFigures,
        monitor: Monitor,
        fal: FalFigures | None = None,
        runners: Callable[[], Awaitable[Runners]] | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._figures, self._monitor, self._fal, self._runners, self._clock = figures, monitor, fal, runners, clock
        self._since = clock() - LAG
        self._endpoints = {*ENDPOINTS}  # and those of an earlier version that the ledger still has
        self._log = RateLimitedLog(logger)

    async def run(self, every_s: float = EVERY_S) -> None:
        """Look now and then, until cancelled. What ended before is of somebody else to tell."""
        self._since = self._clock() - LAG
        while True:
            began = monotonic()
            try:
                await self.look()
            except Exception as error:
                self._log.warning("the ledger does not tell its figures: %r", error.__cause__ or error)
            await asyncio.sleep(max(every_s, (monotonic() - began) / SHARE))

    async def look(self) -> None:
        """Tell what there is now and what has ended since the last time. Raises StoreUnavailable."""
        runners = Runners() if self._runners is None else await self._runners()  # first, for the ledger may be away
        now = self._clock()
        since, until = max(self._since, now - MOST_BACK), now - LAG
        figures = await self._figures.read(since, until, now - LAST)
        self._since = max(since, until)
        self._tell_going(now, figures)
        self._tell_over(figures)
        owed = figures.owed
        self._monitor.set(WEBHOOKS_WAITING, owed.number)
        self._monitor.set(WEBHOOKS_OLDEST, _age(now, owed.oldest))
        if self._fal is not None:
            for metric, value, labels in self._fal.values(now, figures, runners):
                self._monitor.set(metric, value, **labels)

    def _tell_going(self, now: datetime, figures: Figures) -> None:
        self._endpoints |= {one.endpoint for one in figures.going}
        queued = {(one.endpoint, one.priority): one for one in figures.going if one.state is State.QUEUED}
        # a gauge that nobody sets stays what it was, so those of which there is nothing are set too
        for endpoint, priority in product(sorted(self._endpoints), Priority):
            one, labels = queued.get((endpoint, priority)), {"endpoint": endpoint, "priority": priority.name.lower()}
            self._monitor.set(DEPTH, one.number if one else 0, **labels)
            self._monitor.set(OLDEST_WAIT, _age(now, one.oldest if one else None), **labels)
        for endpoint, state in product(sorted(self._endpoints), (State.CLAIMED, State.RUNNING)):
            held = sum(one.number for one in figures.going if (one.endpoint, one.state) == (endpoint, state))
            self._monitor.set(HELD, held, endpoint=endpoint, state=state.value)

    def _tell_over(self, figures: Figures) -> None:
        for one in figures.over:
            endpoint, outcome = one.endpoint, one.outcome.value
            self._monitor.add(ENDED, endpoint=endpoint, outcome=outcome, error_type=one.error_type or NO_ERROR)
            self._monitor.observe(REQUEST_SECONDS, one.seconds, endpoint=endpoint, outcome=outcome)
            if one.outcome is Outcome.CANCELLED and one.drawn:
                self._monitor.add(CANCELLED_RUNNING, endpoint=endpoint)


def _age(now: datetime, since: datetime | None) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())
