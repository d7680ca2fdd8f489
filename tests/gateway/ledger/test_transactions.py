"""Writes that wait together share a commit and nothing else; those that meet in a deadlock are tried again."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from threading import Barrier, BrokenBarrierError, Event

import pytest
from sqlalchemy import Connection, event, select, text
from sqlalchemy.exc import IntegrityError

from gateway.errors import StoreUnavailable
from gateway.ledger import transactions
from gateway.ledger.database import Database
from gateway.ledger.models import Limits, Terms, TooMany
from gateway.ledger.store import SqlLedger
from gateway.ledger.tables import request, turn
from gateway.ledger.transitions import add
from tests.gateway.ledger.works import APP, Clock, claimed, work

MANY = 60
_HALF = turn.insert().values(priority=0, key="half", claimed=1)


@pytest.fixture
async def sqlite(sqlite_url: str, clock: Clock) -> AsyncIterator[SqlLedger]:
    opened = await SqlLedger.open(sqlite_url, clock, Limits(waiting=MANY))
    yield opened
    await opened.close()


@asynccontextmanager
async def held_up(database: Database) -> AsyncIterator[None]:
    """Keep the writer busy, so that all writes of the block wait together when it ends."""
    busy, free = Event(), Event()

    def wait(_: Connection) -> None:
        busy.set()
        free.wait(10)

    waiting = asyncio.create_task(database.write(wait))
    await asyncio.to_thread(busy.wait, 10)
    yield
    await asyncio.sleep(0)  # what was made a task in the block comes to its queue
    free.set()
    await waiting


async def together(database: Database, *writes: Awaitable[object]) -> Sequence[object]:
    """What each of these writes returns or raises, all being in the queue at once."""
    async with held_up(database):
        every = asyncio.gather(*writes, return_exceptions=True)
    return await every


async def names(ledger: SqlLedger) -> set[str]:
    return {entry.request_id for entry in (await ledger.history.list(limit=1000)).entries}


async def halves(database: Database) -> int:
    half = select(turn).where(turn.c.key == "half")
    return await database.read(lambda connection: len(connection.execute(half).all()))


async def test_writes_that_wait_together_share_a_commit(sqlite: SqlLedger) -> None:
    commits: Counter[str] = Counter()
    event.listen(sqlite.database._engine, "commit", lambda _: commits.update(["commit"]))
    await together(sqlite.database, *(sqlite.submit(work(f"r{at}"), APP) for at in range(MANY)))
    assert await sqlite.depth() == MANY
    assert 2 <= commits["commit"] <= 4


async def test_a_write_is_answered_after_its_commit(sqlite: SqlLedger) -> None:
    other = await SqlLedger.open(str(sqlite.database._engine.url))
    seen = []

    async def submit(name: str) -> None:
        await sqlite.submit(work(name), APP)
        seen.append(await other.status(name, APP))

    await together(sqlite.database, *(submit(f"r{at}") for at in range(10)))
    assert len(seen) == 10
    assert None not in seen
    await other.close()


@pytest.mark.parametrize("fault", [TooMany, IntegrityError])
async def test_a_write_that_is_refused_leaves_the_others_written_and_itself_nothing(
    sqlite: SqlLedger, fault: type[Exception]
) -> None:
    await sqlite.submit(work("a"), APP)
    bad = sqlite.submit(work("b"), APP, Terms(key="new", max_ahead=0))
    if fault is IntegrityError:
        bad.close()
        bad = sqlite.submit(work("a"), APP, Terms(key="new"))
    good = [sqlite.submit(work(f"r{at}"), APP) for at in range(10)]
    results = await together(sqlite.database, *good[:5], bad, *good[5:])
    assert [type(result) for result in results if isinstance(result, Exception)] == [fault]
    assert await names(sqlite) == {"a", *(f"r{at}" for at in range(10))}
    keys = await sqlite.database.read(lambda connection: connection.execute(select(turn.c.key)).scalars().all())
    assert keys == [""]


def _wrong_statement(connection: Connection) -> None:
    connection.execute(text("INSERT INTO nowhere VALUES (1)"))


def _own_fault(_: Connection) -> None:
    raise ValueError("half way")


@pytest.mark.parametrize("fault", [_wrong_statement, _own_fault])
async def test_a_write_that_fails_half_way_leaves_the_others_written_and_itself_nothing(
    sqlite: SqlLedger, fault: Callable[[Connection], None]
) -> None:
    def half(connection: Connection) -> None:
        connection.execute(_HALF)
        fault(connection)

    good = [sqlite.submit(work(f"r{at}"), APP) for at in range(10)]
    results = await together(sqlite.database, *good[:5], sqlite.database.write(half), *good[5:])
    assert [at for at, result in enumerate(results) if isinstance(result, Exception)] == [5]
    assert await sqlite.depth() == 10
    assert await halves(sqlite.database) == 0


async def test_a_write_that_the_disk_has_no_room_for_leaves_the_others_written(sqlite: SqlLedger) -> None:
    """SQLite ends the whole transaction then, savepoints and all."""
    claims = [await claimed(sqlite, f"r{at}") for at in range(5)]
    pages = await sqlite.database.read(lambda connection: connection.exec_driver_sql("PRAGMA page_count").scalar_one())
    bound = f"PRAGMA max_page_count = {pages + 20}"
    event.listen(sqlite.database._engine, "checkout", lambda connection, *_: connection.execute(bound))
    big = [("INFO", "x" * 1_000_000)]
    logs = [sqlite.log(claim, big if at == 2 else [("INFO", "x")]) for at, claim in enumerate(claims)]
    results = await together(sqlite.database, *logs)
    assert [at for at, result in enumerate(results) if isinstance(result, StoreUnavailable)] == [2]
    assert [len(await sqlite.logs(f"r{at}")) for at in range(5)] == [1, 1, 0, 1, 1]


async def test_a_write_whose_caller_has_gone_before_its_turn_is_not_written(sqlite: SqlLedger) -> None:
    async with held_up(sqlite.database):
        calls = [asyncio.create_task(sqlite.submit(work(f"r{at}"), APP)) for at in range(10)]
        await asyncio.sleep(0.01)
        for call in calls[::2]:
            call.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [True, False] * 5
    assert await names(sqlite) == {f"r{at}" for at in range(1, 10, 2)}


async def test_a_write_whose_caller_goes_when_it_has_begun_is_whole(ledger: SqlLedger) -> None:
    begun, go_on = Event(), Event()

    def write(connection: Connection) -> None:
        connection.execute(_HALF)
        begun.set()
        go_on.wait(10)
        connection.execute(turn.insert().values(priority=1, key="half", claimed=1))

    call = asyncio.create_task(ledger.database.write(write))
    await asyncio.to_thread(begun.wait, 10)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    go_on.set()
    await ledger.submit(work("a"), APP)
    async with asyncio.timeout(10):
        while await halves(ledger.database) == 0:
            pass
    assert await halves(ledger.database) == 2


async def test_writes_that_meet_in_a_deadlock_are_tried_again(postgresql_url: str, clock: Clock) -> None:
    ledger = await SqlLedger.open(postgresql_url, clock)
    for name in "ab":
        await ledger.submit(work(name), APP)
    meet = Barrier(2)

    def lock(connection: Connection, order: str) -> str:
        for name in order:
            connection.execute(select(request.c.seq).where(request.c.id == name).with_for_update())
            with suppress(BrokenBarrierError):
                meet.wait(0.5)
        return order

    writes = (ledger.database.write(lambda connection, order=order: lock(connection, order)) for order in ("ab", "ba"))
    assert await asyncio.gather(*writes) == ["ab", "ba"]
    await ledger.close()


async def test_what_is_answered_too_late_is_not_written(sqlite: SqlLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was told that the ledger is away takes its pictures back, and sends its request again."""
    go_on = Event()

    def slow(connection: Connection) -> None:
        add(connection, work("under way"), APP, Terms(), 0, sqlite._clock())
        go_on.wait(10)

    monkeypatch.setattr(transactions, "ANSWER_S", 0.2)
    calls = [sqlite.database.write(slow), sqlite.submit(work("waiting"), APP)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 2
    monkeypatch.setattr(transactions, "ANSWER_S", 15)
    go_on.set()
    await sqlite.submit(work("after"), APP)
    assert {entry.request_id for entry in (await sqlite.history.list()).entries} == {"after"}
