"""The reaper frees what the silent hold, and nobody after an absence that was its own."""

import pytest

from gateway.errors import StoreUnavailable
from gateway.ledger.models import Claim, LogBatch, State
from gateway.ledger.store import SqlLedger
from gateway.worker.reaper import Reaper
from tests.gateway.ledger.works import Clock, claimed, state

LEASE_S = 10.0


class Shaky(SqlLedger):
    """A ledger that may be away. asked: how often it was asked to free something."""

    away = False
    asked = 0

    async def expire(self) -> int:
        self.asked += 1
        if self.away:
            raise StoreUnavailable("ledger")
        return await super().expire()

    async def waits(self) -> bool:
        if self.away:
            raise StoreUnavailable("ledger")
        return await super().waits()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shaky(ledger: SqlLedger, clock: Clock) -> Shaky:
    return Shaky(ledger.database, clock)


@pytest.fixture
def reaper(shaky: Shaky, clock: Clock) -> Reaper:
    return Reaper(shaky, LEASE_S, lambda: clock.now.timestamp())


async def renew(ledger: SqlLedger, claim: Claim) -> None:
    assert (await ledger.heartbeat("one", LEASE_S, [LogBatch(claim)])).held


async def test_what_a_silent_owner_holds_is_queued_again_and_what_others_hold_is_not(
    shaky: Shaky, reaper: Reaper, clock: Clock
) -> None:
    kept = await claimed(shaky, "kept", "one", LEASE_S)
    for name in ("lost1", "lost2"):
        await claimed(shaky, name, "gone", LEASE_S)
    assert await reaper.sweep() == 0
    clock.turn(LEASE_S - 1)
    assert await reaper.sweep() == 0
    await renew(shaky, kept)
    clock.turn(2)
    assert await reaper.sweep() == 2
    assert await state(shaky, "lost1") == (State.QUEUED, None)
    assert await state(shaky, "kept") == (State.CLAIMED, None)


async def test_sweeps_at_its_period_are_never_held_off(shaky: Shaky, reaper: Reaper, clock: Clock) -> None:
    assert reaper.period_s == LEASE_S / 2
    for _ in range(10):
        clock.turn(reaper.period_s)
        await reaper.sweep()
    assert shaky.asked == 10


async def test_after_the_ledger_was_away_holders_have_one_more_lease(
    shaky: Shaky, reaper: Reaper, clock: Clock
) -> None:
    """While it is away nobody can renew, and all leases run out."""
    kept = await claimed(shaky, "kept", "one", LEASE_S)
    await claimed(shaky, "lost", "gone", LEASE_S)
    shaky.away = True
    for _ in range(3):
        clock.turn(reaper.period_s)
        with pytest.raises(StoreUnavailable):
            await reaper.sweep()
    shaky.away = False
    clock.turn(reaper.period_s)
    assert await reaper.sweep() == 0  # as one that hung with it, and is answered when it is back
    await renew(shaky, kept)
    clock.turn(reaper.period_s)
    assert await reaper.sweep() == 0
    await renew(shaky, kept)
    clock.turn(reaper.period_s)
    assert await reaper.sweep() == 1
    assert await state(shaky, "kept") == (State.CLAIMED, None)


async def test_after_standing_still_it_gives_everybody_one_more_lease(
    shaky: Shaky, reaper: Reaper, clock: Clock
) -> None:
    """A machine that slept wakes with all leases over, and all their owners on it."""
    kept = await claimed(shaky, "kept", "one", LEASE_S)
    await claimed(shaky, "lost", "gone", LEASE_S)
    clock.turn(LEASE_S + 1)
    assert await reaper.sweep() == 0
    await renew(shaky, kept)
    clock.turn(LEASE_S / 2)
    assert await reaper.sweep() == 0
    await renew(shaky, kept)
    clock.turn(LEASE_S / 2)
    assert await reaper.sweep() == 1
    assert await state(shaky, "lost") == (State.QUEUED, None)
    assert await state(shaky, "kept") == (State.CLAIMED, None)
