"""The order of claims in memory is the order that the ledger's statements make, on both databases."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import pytest
from sqlalchemy import Connection, delete, insert, select

from gateway.ledger.fetch import choose
from gateway.ledger.models import AtOnce, CancelAnswer, Claim, Payload, Priority, State, Terms
from gateway.ledger.order import Order, Waiting, claims
from gateway.ledger.store import SqlLedger
from gateway.ledger.tables import request
from tests.gateway.ledger.works import APP, Clock, engine_of, work

KEYS = ("", "a", "b", "c", "d")
NOW = Clock().now
MANY, FEW = 10_000, 1_000
TOGETHER = 100  # states of a transaction, which is never committed: what it deleted would still be walked through


@dataclass(frozen=True)
class Situation:
    """What a claim meets. others: key and state of rows that do not wait."""

    waiting: Sequence[Waiting]
    others: Sequence[tuple[str, State]]
    count: int
    at_once: AtOnce

    @property
    def held(self) -> Mapping[str, int]:
        return Counter(key for key, state in self.others if state in (State.CLAIMED, State.RUNNING))


def situations(number: int) -> Iterator[Situation]:
    """Any that rows can make, whether a service reaches them or not; each differs from the others."""
    chance = random.Random(24)
    for _ in range(number):
        keys = chance.sample(KEYS, chance.randint(1, len(KEYS)))
        seqs = chance.sample(range(1, 60), chance.randint(0, 20))
        waiting = [
            Waiting(
                chance.choice(list(Priority)),
                chance.randint(0, 5),
                seq,
                chance.choice(keys),
                chance.choice((None, None, NOW + timedelta(seconds=chance.choice((-1, 0, 1))))),
            )
            for seq in seqs
        ]
        others = [
            (chance.choice(keys), chance.choice((State.CLAIMED, State.RUNNING, State.DONE)))
            for _ in range(chance.randint(0, 8))
        ]
        of_key = {key: chance.randint(0, 4) for key in KEYS if chance.random() < 0.2}
        at_once = AtOnce(chance.choice((None, None, 1, 2, 3)), of_key if chance.random() < 0.5 else {})
        yield Situation(waiting, others, chance.randint(1, 12), at_once)


def row(seq: int, key: str, state: State, waits: Waiting | None = None) -> dict[str, object]:
    return {
        "seq": seq,
        "id": str(seq),
        "app": APP,
        "endpoint": APP,
        "key": key,
        "state": state,
        "priority": Priority.NORMAL if waits is None else waits.priority,
        "turn": 0 if waits is None else waits.turn,
        "start_by": None if waits is None else waits.start_by,
        "attempt": 0,
        "retries": 0,
        "crashes": 0,
        "may_retry": True,
        "payload": Payload.KEPT,
        "cancel_requested": False,
        "sync": False,
        "created_at": NOW,
        "lines": 0,
        "input_media": "[]",
        "output_media": "[]",
        "work": "{}",
    }


def chosen_by_the_ledger(connection: Connection, met: Situation) -> Sequence[int]:
    connection.execute(delete(request))
    rows = [row(waits.seq, waits.key, State.QUEUED, waits) for waits in met.waiting]
    rows += [row(100 + at, key, state) for at, (key, state) in enumerate(met.others)]
    if rows:
        connection.execute(insert(request), rows)
    return choose(connection, met.count, NOW, met.at_once)


async def agree(url: str, number: int) -> None:
    await (await SqlLedger.open(url)).close()
    engine = engine_of(url)
    with engine.connect() as connection:
        for at, met in enumerate(situations(number)):
            if at % TOGETHER == 0:
                connection.rollback()
            chosen = claims(met.waiting, met.count, NOW, met.at_once, met.held)
            assert [taken.seq for taken in chosen] == chosen_by_the_ledger(connection, met), met
    engine.dispose()


async def test_the_ledger_chooses_the_same_requests_in_the_same_order(url: str) -> None:
    await agree(url, FEW)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_the_ledger_chooses_the_same_requests_in_ten_thousand_states(url: str) -> None:
    await agree(url, MANY)


def test_a_queue_in_memory_gives_what_the_function_says() -> None:
    for met in situations(MANY):
        order = Order()
        for waits in met.waiting:
            order.put_back(waits)
        chosen = order.claim(met.count, NOW, met.at_once, met.held)
        assert chosen == claims(met.waiting, met.count, NOW, met.at_once, met.held)
        assert len(order) == len(met.waiting) - len(chosen)


async def test_a_queue_in_memory_gives_and_takes_back_turns_as_the_ledger_does(ledger: SqlLedger) -> None:
    chance, order, held, waiting = random.Random(24), Order(), dict[int, tuple[Waiting, Claim]](), set[int]()
    for seq in range(1, 301):
        key, priority = chance.choice(KEYS), chance.choice(list(Priority))
        await ledger.submit(work(str(seq)), APP, Terms(key=key, priority=priority))
        assert order.submit(seq, key, priority).turn == await turn_of(ledger, seq)
        waiting.add(seq)
        match chance.choice(("wait", "wait", "claim", "cancel", "requeue")):
            case "claim":
                count = chance.randint(1, 4)
                taken = order.claim(count, NOW)
                found = await ledger.claim("one", count, 60)
                assert [str(one.seq) for one in taken] == [claim.work.request_id for claim in found]
                held.update((one.seq, (one, claim)) for one, claim in zip(taken, found, strict=True))
                waiting -= {one.seq for one in taken}
            case "cancel":
                gone = chance.choice(sorted(waiting))
                assert await ledger.cancel(str(gone), APP) is CancelAnswer.REMOVED
                order.leave(gone)
                waiting.remove(gone)
            case "requeue" if held:
                again, claim = held.pop(chance.choice(sorted(held)))
                assert await ledger.requeue(claim)
                order.put_back(again)
                waiting.add(again.seq)


async def turn_of(ledger: SqlLedger, seq: int) -> int:
    asked = select(request.c.turn).where(request.c.id == str(seq))
    return await ledger.database.read(lambda connection: int(connection.execute(asked).scalar_one()))
