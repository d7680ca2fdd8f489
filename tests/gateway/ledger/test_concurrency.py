"""How many requests of a key are held at once, over every ledger that claims."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from gateway.ledger.models import AtOnce, Outcome, State, Terms
from gateway.ledger.store import SqlLedger
from tests.gateway.ledger.works import APP, OK, Clock, work

ROUNDS = 40


@pytest.fixture
async def two(url: str, clock: Clock) -> AsyncIterator[tuple[SqlLedger, SqlLedger]]:
    """Two ledgers on one database, as two processes have them."""
    one, other = [await SqlLedger.open(url, clock) for _ in range(2)]
    yield one, other
    for ledger in (one, other):
        await ledger.close()


@pytest.mark.parametrize("at_once", [AtOnce(of_key={"k": 2}), AtOnce(default=2)], ids=["of_key", "default"])
async def test_ledgers_that_claim_at_once_hold_no_more_of_a_key_than_it_may_have(
    two: tuple[SqlLedger, SqlLedger], at_once: AtOnce
) -> None:
    for number in range(2 * ROUNDS):
        await two[0].submit(work(f"r{number}"), APP, Terms(key="k"))
    for _ in range(ROUNDS):
        both = await asyncio.gather(*(ledger.claim(f"o{number}", 2, 60, at_once) for number, ledger in enumerate(two)))
        claims = [claim for claims in both for claim in claims]
        assert len(claims) == 2
        for claim in claims:
            assert await two[0].finish(claim, Outcome.OK, OK)


async def test_a_key_at_its_limit_over_both_ledgers_gets_more_when_one_ends(two: tuple[SqlLedger, SqlLedger]) -> None:
    for number in range(4):
        await two[0].submit(work(f"r{number}"), APP, Terms(key="k"))
    (first,) = await two[0].claim("one", 1, 60, AtOnce(default=2))
    (second,) = await two[1].claim("two", 9, 60, AtOnce(default=2))
    assert await two[0].claim("one", 9, 60, AtOnce(default=2)) == []
    assert await two[1].requeue(second)
    assert [claim.work for claim in await two[0].claim("one", 9, 60, AtOnce(default=2))] == [second.work]
    assert await two[0].finish(first, Outcome.OK, OK)
    assert len(await two[1].claim("two", 9, 60, AtOnce(default=2))) == 1


async def test_the_limits_of_other_keys_hold_nobody_up(two: tuple[SqlLedger, SqlLedger]) -> None:
    for number in range(12):
        await two[0].submit(work(f"r{number}"), APP, Terms(key=f"k{number % 3}"))
    limits = AtOnce(default=1, of_key={"k1": 3})
    both = await asyncio.gather(*(ledger.claim(f"o{number}", 9, 60, limits) for number, ledger in enumerate(two)))
    assert sum(len(claims) for claims in both) == 5
    held = [entry.key for entry in (await two[0].history.list()).entries if entry.state is State.CLAIMED]
    assert Counter(held) == {"k0": 1, "k1": 3, "k2": 1}
