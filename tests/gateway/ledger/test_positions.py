"""Positions that are a moment old: who reads the order, for whom, how often, and what this process knows besides."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.errors import StoreUnavailable
from gateway.ledger.models import CancelAnswer, Outcome, Place, State, Terms
from gateway.ledger.positions import Line, Positions
from gateway.ledger.store import SqlLedger
from tests.gateway.ledger.works import APP, OK, Clock, position, work

AGE_S = 60.0


class Counting(Positions):
    """reads: how often the order was read."""

    reads = 0

    async def _read(self) -> None:
        self.reads += 1
        await super()._read()


@pytest.fixture
async def gateway(url: str, clock: Clock) -> AsyncIterator[SqlLedger]:
    """A ledger of its own process, whose positions are at most a minute old."""
    opened = await SqlLedger.open(url, clock, positions_age_s=AGE_S)
    yield opened
    await opened.close()


async def test_a_line_counts_who_begins_before(clock: Clock) -> None:
    line = Line([(0, 1, 1), (0, 2, 3)], [(0, 2, 4), (0, 3, 2), (1, 0, 5)])
    assert [line.position(State.CLAIMED, rank) for rank in line.claimed] == [0, 1]
    assert [line.position(State.QUEUED, rank) for rank in line.queued] == [2, 3, 4]


async def test_who_is_claimed_meanwhile_is_never_before_itself() -> None:
    line = Line([(0, 1, 1), (0, 2, 3)], [(0, 2, 4)])
    assert line.position(State.QUEUED, (0, 2, 3)) == 1
    assert line.position(State.CLAIMED, (0, 2, 4)) == 2


async def test_what_other_processes_change_is_told_after_the_age(ledger: SqlLedger, gateway: SqlLedger) -> None:
    for name in "ab":
        await ledger.submit(work(name), APP)
    assert await position(gateway, "b") == 1
    (claim,) = await ledger.claim("one", 1, 60)
    await ledger.running(claim)
    assert (await position(ledger, "b"), await position(gateway, "b")) == (0, 1)
    gateway._positions._begun_at -= AGE_S
    assert await position(gateway, "b") == 0


async def test_what_this_process_submits_stands_in_line_at_once(ledger: SqlLedger, gateway: SqlLedger) -> None:
    await ledger.submit(work("a1"), APP, Terms("a"))
    assert (await gateway.submit(work("a2"), APP, Terms("a"))).position == 1
    assert (await gateway.submit(work("b1"), APP, Terms("b"))).position == 1
    assert (await gateway.submit(work("c1"), "fal-ai/other", Terms("c"))).position == 0
    assert [await position(gateway, name) for name in ("a1", "b1", "a2")] == [0, 1, 2]


async def test_what_this_process_cancels_stands_in_no_line_any_more(gateway: SqlLedger) -> None:
    for name in "abc":
        await gateway.submit(work(name), APP)
    assert await gateway.cancel("b", APP) is CancelAnswer.REMOVED
    assert await position(gateway, "c") == 1
    assert (await gateway.submit(work("d"), APP)).position == 2


async def test_what_changes_while_the_order_is_read_is_not_forgotten(
    gateway: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        await gateway.submit(work(name), APP)
    positions, read = gateway._positions, gateway.database.read

    async def and_meanwhile(asked: Any) -> Any:
        found = await read(asked)
        if asked == positions._timed:  # of an order without what comes now
            await asyncio.gather(gateway.cancel("a", APP), gateway.submit(work("c"), APP))
        return found

    monkeypatch.setattr(gateway.database, "read", and_meanwhile)
    async with positions._reading:
        await positions._read()
    assert (await position(gateway, "b"), await position(gateway, "c")) == (0, 1)


async def test_what_it_submits_and_holds_goes_before_all_that_waits(ledger: SqlLedger, gateway: SqlLedger) -> None:
    held = await gateway.submit(work("a"), APP, Terms(start_within_s=9), Place("here", 60))
    assert (await gateway.submit(work("b"), APP)).position == 1
    assert held.claim is not None
    await gateway.running(held.claim)
    await gateway.finish(held.claim, Outcome.OK, OK)
    assert await position(ledger, "b") == 0


async def test_what_has_begun_needs_no_order(gateway: SqlLedger) -> None:
    gateway._positions = counting = Counting(gateway.database)
    accepted = await gateway.submit(work("a"), APP, Terms(), Place("here", 60))
    assert accepted.claim is not None
    assert await position(gateway, "a") is None
    await gateway.finish(accepted.claim, Outcome.OK, OK)
    assert (await gateway.statuses(["a"]))["a"].position is None
    assert counting.reads == 0


async def test_who_asks_at_once_waits_for_one_reading(ledger: SqlLedger) -> None:
    counting = Counting(ledger.database, AGE_S)
    await asyncio.gather(*(counting.lines() for _ in range(50)))
    assert counting.reads == 1


async def test_without_an_age_who_comes_during_a_reading_gets_the_next_one(ledger: SqlLedger) -> None:
    """The one that is under way may have begun before what they know."""
    counting = Counting(ledger.database)
    first = asyncio.create_task(counting.lines())
    await asyncio.sleep(0)
    await asyncio.gather(*(counting.lines() for _ in range(50)))
    await first
    assert counting.reads == 2


async def test_a_queue_that_is_slow_to_read_is_read_less_often(ledger: SqlLedger) -> None:
    seconds = iter([0.0, 0.0, 1.0, 3.0])  # asked, begun, and a reading from 1 to 3
    slow = Positions(ledger.database, 0.5, lambda: next(seconds))
    await slow.lines()
    assert slow._lasts_s == pytest.approx(40.0)


async def test_a_submission_is_told_though_the_ledger_goes_away_after_it(
    gateway: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written: a refusal would have its client send it again, and its pictures deleted."""
    await gateway.submit(work("a"), APP)

    async def fail(_: Positions) -> None:
        raise StoreUnavailable("ledger")

    monkeypatch.setattr(Positions, "_read", fail)
    gateway._positions._begun_at -= AGE_S
    assert (await gateway.submit(work("b"), APP)).position == 1
    with pytest.raises(StoreUnavailable):
        await gateway.status("b", APP)
