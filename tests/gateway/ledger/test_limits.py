"""Limits on what waits hold exactly, though what waits is counted only where one may be reached."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event

from gateway.ledger.models import Limits, Outcome, Place, Terms, TooMany
from gateway.ledger.store import SqlLedger
from tests.gateway.ledger.works import APP, OK, Clock, work

LIMITS = Limits(waiting=8)


@pytest.fixture
async def two(url: str, clock: Clock) -> AsyncIterator[tuple[SqlLedger, SqlLedger]]:
    """Two ledgers on one database, as two processes have them."""
    one, other = [await SqlLedger.open(url, clock, LIMITS) for _ in range(2)]
    yield one, other
    for ledger in (one, other):
        await ledger.close()


@contextmanager
def counts(ledger: SqlLedger) -> Iterator[list[str]]:
    """The statements that count what waits, meanwhile."""
    found: list[str] = []

    def hear(*told: object) -> None:
        if "GROUP BY request.state" in str(told[2]):
            found.append(str(told[2]))

    event.listen(ledger.database._engine, "before_cursor_execute", hear)
    yield found
    event.remove(ledger.database._engine, "before_cursor_execute", hear)


async def fill(ledger: SqlLedger, names: str, terms: Terms | None = None) -> None:
    for name in names:
        await ledger.submit(work(name), APP, terms or Terms())


async def test_what_waits_is_counted_once_as_long_as_no_limit_is_near(two: tuple[SqlLedger, SqlLedger]) -> None:
    with counts(two[0]) as counted:
        await fill(two[0], "abcdefg")
    assert len(counted) == 1


async def test_what_another_process_submits_counts(two: tuple[SqlLedger, SqlLedger]) -> None:
    await fill(two[0], "a")
    await fill(two[1], "bcdefgh")
    for ledger in two:
        with pytest.raises(TooMany):
            await fill(ledger, "i")
    assert await two[0].depth() == 8


async def test_what_comes_back_into_the_queue_counts(two: tuple[SqlLedger, SqlLedger]) -> None:
    await fill(two[1], "abcd")
    claims = await two[1].claim("one", 4, 60)
    await fill(two[0], "efgh")
    for claim in claims:
        await two[1].requeue(claim)
    with pytest.raises(TooMany):
        await fill(two[0], "i")


async def test_what_was_born_held_and_comes_back_counts(two: tuple[SqlLedger, SqlLedger]) -> None:
    born = [(await two[1].submit(work(name), APP, Terms(), Place("one", 60))).claim for name in "abcd"]
    await fill(two[0], "efgh")
    for claim in born:
        assert claim is not None
        await two[1].requeue(claim)
    with pytest.raises(TooMany):
        await fill(two[0], "i")


async def test_a_limit_that_was_reached_lets_in_again_what_has_room(two: tuple[SqlLedger, SqlLedger]) -> None:
    await fill(two[0], "abcdefgh")
    with pytest.raises(TooMany):
        await fill(two[0], "i")
    for claim in await two[1].claim("one", 3, 60):
        await two[1].finish(claim, Outcome.OK, OK)
    await fill(two[0], "ijk")
    with pytest.raises(TooMany):
        await fill(two[0], "l")


async def test_requests_that_were_deleted_make_no_room(two: tuple[SqlLedger, SqlLedger]) -> None:
    await fill(two[1], "abcdefgh")
    held = await two[1].claim("one", 2, 60)
    for ledger, name in zip(two[::-1], "xy", strict=True):  # x has ended when the other one counts
        await fill(ledger, name)
        await ledger.cancel(name, APP)
    for name in "xy":
        await two[0].history.delete(name)
    for claim in held:
        await two[1].requeue(claim)
    with pytest.raises(TooMany):
        await fill(two[0], "i")
    assert await two[0].depth() == 8


async def test_a_keys_limit_counts_what_other_processes_let_in(two: tuple[SqlLedger, SqlLedger]) -> None:
    terms = Terms("k", max_of_key=3)
    await fill(two[0], "a", terms)
    await fill(two[1], "bc", terms)
    await fill(two[1], "de", Terms("other"))
    for ledger in two:
        with pytest.raises(TooMany):
            await fill(ledger, "f", terms)


@pytest.mark.parametrize("most", [0, 2, 10**12])
async def test_who_would_not_wait_behind_so_many_is_refused_with_one_more(ledger: SqlLedger, most: int) -> None:
    await fill(ledger, "abc"[: min(most, 3)])
    await fill(ledger, "d", Terms(max_ahead=most))
    if most < 4:
        with pytest.raises(TooMany):
            await fill(ledger, "e", Terms(max_ahead=most))


async def test_a_call_that_has_ended_is_open_no_more(ledger: SqlLedger) -> None:
    terms = Terms("k", listener="me", max_open=2)
    await fill(ledger, "ab", terms)
    await fill(ledger, "c", Terms("k"))
    with pytest.raises(TooMany):
        await fill(ledger, "d", terms)
    await fill(ledger, "d", Terms("other", listener="me", max_open=2))
    await ledger.cancel("a", APP)
    await fill(ledger, "e", terms)
