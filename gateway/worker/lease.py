"""Leases: one owner keeps its own with a heartbeat, and anyone takes those of owners and listeners that are silent."""

import logging
from collections.abc import Callable, Iterable, Sequence
from time import time

from gateway.errors import StoreUnavailable
from gateway.ledger.models import Claim, LeaseRenewal, Ledger, LogBatch

Line = tuple[str, str]


class LeaseKeeper:
    """Gathers the log lines of all of an owner's requests, so that they cost one transaction a beat."""

    def __init__(self, ledger: Ledger, owner: str, lease_s: float) -> None:
        self._ledger, self._owner, self._lease_s = ledger, owner, lease_s
        self._waiting: dict[tuple[str, int], tuple[Claim, list[Line]]] = {}

    def say(self, claim: Claim, level: str, message: str) -> None:
        """Add a line to the log of a request; it is written at the next beat."""
        self._waiting.setdefault(_name(claim), (claim, []))[1].append((level, message))

    def said(self) -> Sequence[str]:
        """The requests of which something was said that is not written."""
        return [request_id for request_id, _ in self._waiting]

    async def renew(self, held: Iterable[Claim]) -> LeaseRenewal:
        """Extend the leases of `held`, write what was said. After a failure it is said again at the next beat."""
        taken, self._waiting = self._waiting, {}
        reports = [LogBatch(claim, tuple(taken.get(_name(claim), (claim, []))[1])) for claim in held]
        try:
            return await self._ledger.heartbeat(self._owner, self._lease_s, reports)
        except BaseException:
            for name, (claim, lines) in self._waiting.items():
                taken.setdefault(name, (claim, []))[1].extend(lines)
            self._waiting = taken
            raise

    def drain(self, claim: Claim) -> Sequence[Line]:
        """What was said of a request and is not written; it is the caller's to write."""
        _, lines = self._waiting.pop(_name(claim), (claim, []))
        return lines


def _name(claim: Claim) -> tuple[str, int]:
    return claim.work.request_id, claim.attempt


STOOD_STILL = 0.9  # of a lease between two sweeps, which are half a lease apart

logger = logging.getLogger("fooocus.gateway")


class Reaper:
    """Ends and frees what is over in the ledger (`Ledger.expire`). Every gateway and dispatcher has one.

    Where the ledger itself was away, or this process stood still, everybody's lease may have run out, and nobody is
    lost: then they have one more lease to say so. clock: seconds, of a clock that goes on while the machine sleeps, as
    that of leases does.
    """

    def __init__(self, ledger: Ledger, lease_s: float, clock: Callable[[], float] = time) -> None:
        self._ledger, self._lease_s, self._clock = ledger, lease_s, clock
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
        return requeued
