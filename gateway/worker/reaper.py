"""What is cleared up now and then: what silent owners hold, what is older than settings say, files nothing names."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from time import time

from gateway.errors import StoreUnavailable
from gateway.files.base import Files
from gateway.ledger.history import Retired, SqlHistory
from gateway.ledger.models import Ledger
from gateway.ledger.store import utc_now
from gateway.monitoring.contract import LEASES_EXPIRED
from gateway.monitoring.monitor import Monitor, NoMonitor
from gateway.rate_limited_log import RateLimitedLog
from gateway.settings import GatewaySettings

FIRST_S = 60.0  # from the start: whoever starts again and again clears up all the same
STOOD_STILL = 0.9  # of a lease between two sweeps, which are half a lease apart

logger = logging.getLogger("fooocus.gateway")


class PeriodicTasks:
    """Runs sweeps, one after the other, every `every_s` seconds. Each returns how much it has cleared."""

    def __init__(
        self, sweeps: Sequence[Callable[[], Awaitable[int]]], every_s: float, first_s: float = FIRST_S
    ) -> None:
        self._sweeps, self._every_s, self._first_s = sweeps, every_s, first_s
        self._stopped, self._called = asyncio.Event(), asyncio.Event()
        self._log = RateLimitedLog(logger)  # a gateway clears up every few seconds

    async def run(self) -> None:
        """Until `stop`."""
        pause = min(self._first_s, self._every_s)
        while not await self._stopped_within(pause):
            for sweep in self._sweeps:
                try:
                    if cleared := await sweep():
                        logger.info("cleared up: %d", cleared)
                except StoreUnavailable as error:
                    self._log.warning("clearing up waits for the %s store: %r", error.store, error.__cause__ or error)
                except Exception:
                    logger.exception("clearing up failed; it is tried again later")
            pause = self._every_s

    def every(self, seconds: float) -> None:
        """So often from now on; a pause that has begun is no longer than that from here."""
        if seconds != self._every_s:
            self._every_s = seconds
            self._called.set()

    def stop(self) -> None:
        self._stopped.set()
        self._called.set()

    async def _stopped_within(self, seconds: float) -> bool:
        while not self._stopped.is_set():
            self._called.clear()
            try:
                await asyncio.wait_for(self._called.wait(), seconds)
            except TimeoutError:
                break
            seconds = min(seconds, self._every_s)
        return self._stopped.is_set()


async def delete_files(keys: Iterable[str], files: Files) -> None:
    """Delete every file that can be deleted; one that cannot is left over, and logged."""
    remaining = list(keys)
    while remaining:
        key = remaining.pop()
        try:
            await files.delete(key)
        except StoreUnavailable as error:  # and would be for each of the others
            names = ", ".join([key, *remaining])
            logger.warning("the files store is away (%r); left over: %s", error.__cause__ or error, names)
            return
        except Exception:
            logger.exception("the file %s is left over", key)


BATCH = 200  # requests of one transaction


class Retention:
    """Deletes requests that ended long ago, and clears those that were not to be stored. Any number may do it."""

    def __init__(
        self, history: SqlHistory, files: Files, settings: GatewaySettings, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._history, self._files, self._settings, self._clock = history, files, settings, clock

    async def sweep(self) -> int:
        """Delete and clear all that is due, batch by batch; return how many requests that were.

        Raises StoreUnavailable, and has done nothing, when their files could not be deleted now.
        """
        await self._files.check()  # for with a row goes the only word of its files
        now = self._clock()
        unstored = now - timedelta(seconds=self._settings.keep_unstored_s)
        old = now - timedelta(seconds=self._settings.keep_requests_s)
        return await self._all(self._history.forget, unstored) + await self._all(self._history.retire, old)

    async def _all(self, batch: Callable[[datetime, int], Awaitable[Retired]], before: datetime) -> int:
        count = 0
        while True:
            done = await batch(before, BATCH)
            await delete_files(done.media, self._files)
            count += done.requests
            if done.requests < BATCH:
                return count
            await asyncio.sleep(0)  # whoever else writes goes first


class Reaper:
    """Ends and frees what is over in the ledger (`Ledger.expire`). Every gateway and dispatcher has one.

    Where the ledger itself was away, or this process stood still, everybody's lease may have run out, and nobody is
    lost: then they have one more lease to say so. clock: seconds, of a clock that goes on while the machine sleeps, as
    that of leases does.
    """

    def __init__(
        self, ledger: Ledger, lease_s: float, clock: Callable[[], float] = time, monitor: Monitor | None = None
    ) -> None:
        self._ledger, self._lease_s, self._clock = ledger, lease_s, clock
        self._monitor = monitor or NoMonitor()
        self._next_at = clock()
        self._looked_at = clock()
        self._was_away = False

    @property
    def period_s(self) -> float:
        """Seconds between two sweeps."""
        return self._lease_s / 2

    async def sweep(self) -> int:
        """Free what is over; return how many requests are queued again. Raises as the ledger does."""
        before, now = self._looked_at, self._clock()
        self._looked_at = now
        if now - before > STOOD_STILL * self._lease_s:
            self._next_at = now + self._lease_s
        if now < self._next_at:
            return 0
        try:
            if self._was_away:
                # first whether it is back: what hung with it must not free anything in the moment of its return
                await self._ledger.waits()
                self._was_away, self._next_at = False, self._clock() + self._lease_s
                return 0
            requeued = await self._ledger.expire()
        except StoreUnavailable:
            self._was_away = True
            raise
        if requeued:
            logger.warning("%d requests of lost owners are queued again", requeued)
            self._monitor.add(LEASES_EXPIRED, requeued)
        return requeued
