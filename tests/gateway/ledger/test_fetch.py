"""The order of claims: priorities, keys in turn with the promised bound, oldest first; positions that agree with it."""

import asyncio
from collections import Counter
from random import Random

import pytest

from gateway.ledger.models import AtOnce, Claim, Outcome, Priority, Terms
from gateway.ledger.store import SqlLedger
from tests.gateway.ledger.works import APP, OK, Clock, position, work


async def submit(ledger: SqlLedger, key: str, *names: str, priority: Priority = Priority.NORMAL) -> None:
    for name in names:
        await ledger.submit(work(name), APP, Terms(key=key, priority=priority))


async def take(ledger: SqlLedger, count: int = 1) -> list[str]:
    return [claim.work.request_id for claim in await ledger.claim("one", count, 60)]


async def test_low_is_claimed_when_nothing_waits_as_normal(ledger: SqlLedger) -> None:
    await submit(ledger, "k1", "l1", "l2", priority=Priority.LOW)
    await submit(ledger, "k1", "n1")
    await submit(ledger, "k2", "n2")
    assert await take(ledger, 3) == ["n1", "n2", "l1"]
    await submit(ledger, "k1", "n3")
    assert await take(ledger, 3) == ["n3", "l2"]


async def test_keys_take_turns_and_each_is_oldest_first(ledger: SqlLedger) -> None:
    await submit(ledger, "k1", "a1", "a2", "a3", "a4")
    await submit(ledger, "k2", "b1", "b2")
    await submit(ledger, "k3", "c1")
    assert await take(ledger, 4) == ["a1", "b1", "c1", "a2"]
    assert await take(ledger, 4) == ["b2", "a3", "a4"]


@pytest.mark.parametrize("batch", [1, 3])
async def test_a_key_that_comes_late_joins_the_round_and_does_not_catch_up(ledger: SqlLedger, batch: int) -> None:
    await submit(ledger, "k1", *(f"a{i}" for i in range(12)))
    for _ in range(6 // batch):
        await take(ledger, batch)
    await submit(ledger, "k2", *(f"b{i}" for i in range(6)))
    order = [name for _ in range(12 // batch) for name in await take(ledger, batch)]
    assert "".join(name[0] for name in order) == "bababababab" + "a"


async def test_asking_one_at_a_time_gains_nothing(ledger: SqlLedger) -> None:
    """A key whose queue is always empty when it submits, even with a deleted past, gets its share and no more."""
    await submit(ledger, "k1", *(f"a{i}" for i in range(6)))
    order = []
    for number in range(6):
        await submit(ledger, "k2", f"b{number}")
        while True:
            (claim,) = await ledger.claim("one", 1, 60)
            name = claim.work.request_id
            order.append(name[0])
            await ledger.finish(claim, Outcome.OK, OK)
            await ledger.history.delete(name)
            if name[0] == "b":
                break
    assert Counter(order) == {"a": 6, "b": 6} or Counter(order) == {"a": 5, "b": 6}


async def test_what_is_cancelled_leaves_no_debt_once_its_key_waits_for_nothing(ledger: SqlLedger) -> None:
    await submit(ledger, "k1", *(f"a{i}" for i in range(5)))
    for number in range(5):
        await ledger.cancel(f"a{number}", APP)
    await submit(ledger, "k2", "b0", "b1")
    await submit(ledger, "k1", "a9")
    assert await take(ledger, 3) == ["b0", "a9", "b1"]


async def test_what_is_put_back_is_claimed_next(ledger: SqlLedger) -> None:
    await submit(ledger, "k1", "a0", "a1")
    await submit(ledger, "k2", "b0", "b1")
    (first,) = await ledger.claim("one", 1, 60)
    await take(ledger, 1)
    await ledger.requeue(first)
    assert await position(ledger, "a0") == 1  # behind what is claimed and has not begun
    assert await take(ledger, 3) == ["a0", "a1", "b1"]


async def test_the_position_is_the_number_of_claims_before_it(ledger: SqlLedger) -> None:
    random = Random(5)
    names = []
    for number in range(30):
        key, priority = f"k{random.randrange(4)}", random.choice(list(Priority))
        names.append(f"r{number}")
        await submit(ledger, key, names[-1], priority=priority)
        if random.random() < 0.3:
            for claim in await ledger.claim("one", 1, 60):
                await ledger.finish(claim, Outcome.OK, OK)
                names.remove(claim.work.request_id)
    promised = {name: await position(ledger, name) for name in names}
    assert await take(ledger, len(names)) == sorted(names, key=lambda name: promised[name] or 0)
    assert sorted(place or 0 for place in promised.values()) == list(range(len(names)))
    assert {name: await position(ledger, name) for name in names} == promised  # claimed, and not begun


async def test_a_key_at_its_limit_waits_and_lets_others_pass(ledger: SqlLedger) -> None:
    await submit(ledger, "k1", "a1", "a2", "a3")
    await submit(ledger, "k2", "b1", "b2")
    await submit(ledger, "k3", "c1", "c2")

    async def take(count: int) -> list[Claim]:
        return list(await ledger.claim("one", count, 60, AtOnce(2, {"k1": 1, "k2": 1, "idle": 1})))

    claims = await take(9)
    first = claims[0]
    assert [claim.work.request_id for claim in claims] == ["a1", "b1", "c1", "c2"]
    assert await take(9) == []
    await ledger.finish(first, Outcome.OK, OK)
    assert [claim.work.request_id for claim in await take(1)] == ["a2"]
    assert [claim.work.request_id for claim in await ledger.claim("one", 9, 60)] == ["b2", "a3"]


@pytest.mark.parametrize("seed", range(3))
async def test_no_key_makes_another_wait_beyond_the_bound(ledger: SqlLedger, seed: int) -> None:
    """A request with m of its key before it sees at most m + 2 claims of any other key before its own."""
    random = Random(seed)
    greedy, modest = "k0", ["k1", "k2", "k3"]
    waiting: dict[str, tuple[str, int, Counter[str]]] = {}
    number, longest = 0, 0

    async def one_more(key: str) -> None:
        nonlocal number
        ahead = sum(owner == key for owner, _, _ in waiting.values())
        waiting[f"r{number}"] = key, ahead, Counter()
        await submit(ledger, key, f"r{number}")
        number += 1

    for _ in range(45):
        for _ in range(random.randrange(3)):
            await one_more(greedy)
        if random.random() < 0.4:
            await one_more(random.choice(modest))
        for name in await take(ledger, random.randrange(3)):
            key, ahead, others = waiting.pop(name)
            assert all(count <= ahead + 2 for count in others.values())
            longest = max(longest, *others.values(), 0)
            for rest in waiting.values():
                if rest[0] != key:
                    rest[2][key] += 1
    assert longest > 1


async def test_ledgers_that_claim_at_once_share_what_waits(url: str, clock: Clock) -> None:
    ledgers = [await SqlLedger.open(url, clock) for _ in range(3)]
    for number in range(60):
        await submit(ledgers[0], f"k{number % 5}", f"r{number}")

    async def all_of_it(owner: int) -> list[str]:
        found: list[str] = []
        while claims := await ledgers[owner].claim(f"o{owner}", 4, 60):
            found += [claim.work.request_id for claim in claims]
        return found

    found = await asyncio.gather(*(all_of_it(owner) for owner in range(3)))
    assert Counter(name for names in found for name in names) == Counter(f"r{number}" for number in range(60))
    for ledger in ledgers:
        await ledger.close()
