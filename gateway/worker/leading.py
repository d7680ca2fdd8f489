"""Leading: of the dispatchers of a service one acts, and another one once its lease in the ledger is over."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from time import time
from typing import Protocol

from gateway.errors import StoreUnavailable
from gateway.ledger.leadership import Leader
from gateway.monitoring.contract import LEADS
from gateway.monitoring.monitor import Monitor, NoMonitor
from gateway.rate_limited_log import RateLimitedLog
from gateway.worker.reaper import STOOD_STILL

LOOK_S = 1.0  # between two looks of one that stands by, or cannot reach the ledger
RENEWALS = 3  # of a lease until it is over

logger = logging.getLogger("fooocus.gateway")


class Leadership(Protocol):
    """The part of `gateway.ledger.leadership.SqlLeadership` that is used."""

    async def hold(self, service: str, name: str, lease_s: float) -> bool: ...

    async def look(self, service: str) -> Leader | None: ...

    async def let_go(self, service: str, name: str) -> None: ...


class Leading:
    """Stands by until the ledger lets `name` lead its service, and then leads until another one does.

    That happens at most once: who has lost it goes on with nothing, and is to be replaced. Where the ledger itself was
    away, or this process stood still, the lease of who leads may have run out although it is not lost: then whoever
    stands by gives it one more lease to say so. Meanwhile it `leads` on, for those who ask, but is not `sure` of it,
    and begins nothing.

    on_lead: called when it begins to lead. clock: seconds, of a clock that goes on while the machine sleeps, as that of
    leases does.
    """

    def __init__(
        self,
        leadership: Leadership,
        service: str,
        name: str,
        lease_s: float,
        on_lead: Callable[[], None],
        clock: Callable[[], float] = time,
        monitor: Monitor | None = None,
    ) -> None:
        self._leadership, self._service, self._name, self._lease_s = leadership, service, name, lease_s
        self._on_lead, self._clock, self._monitor = on_lead, clock, monitor or NoMonitor()
        self._leader = ""  # by what the ledger said last
        self._led = False
        self._sure_until = self._others_until = float("-inf")
        self._looked_at = clock()
        self._looking, self._stopped = asyncio.Lock(), asyncio.Event()
        self._log = RateLimitedLog(logger)

    @property
    def leads(self) -> bool:
        """Whether it does, by what the ledger said last."""
        return self._led and self._leader == self._name

    @property
    def is_sure(self) -> bool:
        """Whether nobody else can have begun to lead meanwhile."""
        return self.leads and self._clock() < self._sure_until

    @property
    def leader(self) -> str:
        """Who leads; empty where that is not sure."""
        return "" if self.leads and not self.is_sure else self._leader

    async def run(self) -> None:
        """Until `leave`, or until another one has taken over."""
        while not self._stopped.is_set() and self.leads == self._led:
            pause = min(LOOK_S, self._lease_s / RENEWALS)
            try:
                await self.look()
                if self.leads:
                    pause = self._lease_s / RENEWALS
            except Exception as error:
                self._log.warning("the ledger does not say who leads: %r", error.__cause__ or error)
            self._monitor.set(LEADS, float(self.leads))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), pause)
        self._monitor.set(LEADS, 0.0)

    async def look(self) -> None:
        """Lead, or go on, where the ledger lets it. Raises as the ledger does."""
        async with self._looking:
            before, now = self._looked_at, self._clock()
            self._looked_at = now
            if now - before > STOOD_STILL * self._lease_s:
                self._others_until = now + self._lease_s
            try:
                await self._hold(now)
            except Exception:
                self._others_until = self._clock() + self._lease_s
                raise

    async def leave(self) -> None:
        """Lead no more, so that another one does at once."""
        self._stopped.set()
        async with self._looking:
            if self.leads:
                self._leader = ""
                with suppress(StoreUnavailable):  # then its lease ends
                    await self._leadership.let_go(self._service, self._name)

    async def _hold(self, now: float) -> None:
        if self._stopped.is_set() or (not self.leads and await self._is_anothers(now)):
            return
        if await self._leadership.hold(self._service, self._name, self._lease_s):
            self._begin(now + self._lease_s)
        elif (other := await self._leadership.look(self._service)) is not None:
            self._learn(other.name)

    async def _is_anothers(self, now: float) -> bool:
        other = await self._leadership.look(self._service)
        if other is None or other.name == self._name:  # by an answer that came too late
            return False
        self._learn(other.name)
        return not other.is_over or now < self._others_until

    def _begin(self, until: float) -> None:
        self._sure_until = until
        if not self._led:
            logger.info("%s leads now", self._name)
            self._leader, self._led = self._name, True
            self._on_lead()

    def _learn(self, leader: str) -> None:
        if self.leads:
            logger.warning("%s leads now; %s claims nothing more, and is replaced", leader, self._name)
        elif leader != self._leader:
            logger.info("%s stands by: %s leads", self._name, leader)
        self._leader = leader
