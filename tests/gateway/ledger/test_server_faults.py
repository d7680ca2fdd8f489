"""A PostgreSQL server that stops, restarts, drops connections or hangs: callers hear it in time, and then all works."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from time import monotonic
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Connection

from gateway.errors import StoreUnavailable
from gateway.ledger import transactions
from gateway.ledger.database import Database
from gateway.ledger.models import Outcome, State
from gateway.ledger.store import SqlLedger
from tests.gateway.ledger.postgresql import Server, serving
from tests.gateway.ledger.works import APP, OK, Clock, claimed, state, work

AWAY_S = 1.0


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """A server that no other test uses."""
    with serving() as server:
        yield server


@pytest.fixture
def name(own_server: Server) -> str:
    name = f"ledger_{uuid4().hex}"
    own_server.create(name)
    return name


@pytest.fixture
async def ledger(own_server: Server, name: str, clock: Clock) -> AsyncIterator[SqlLedger]:
    opened = await SqlLedger.open(own_server.url(name), clock)
    yield opened
    await opened.close()


async def until_it_works(call: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await call()
            except StoreUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


async def test_a_server_that_is_stopped_is_a_ledger_that_is_away_until_it_is_started(
    ledger: SqlLedger, own_server: Server
) -> None:
    claim = await claimed(ledger, "a")
    own_server.stop()
    try:
        for call in (ledger.depth, lambda: ledger.submit(work("b"), APP), lambda: ledger.finish(claim, Outcome.OK, OK)):
            with pytest.raises(StoreUnavailable):
                await call()
    finally:
        own_server.start()
    await until_it_works(ledger.depth)
    assert await ledger.status("b", APP) is None
    assert await ledger.finish(claim, Outcome.OK, OK)
    assert await state(ledger, "a") == (State.DONE, Outcome.OK)


async def test_a_server_that_only_reads_is_found_out_by_a_check(
    ledger: SqlLedger, own_server: Server, name: str
) -> None:
    def written() -> str:
        with psycopg.connect(own_server.url(name)) as connection:
            return str(connection.execute("SELECT xmin, version_num FROM alembic_version").fetchall())

    before = written()
    await ledger.database.check()
    assert written() != before
    with psycopg.connect(own_server.url(name), autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
    own_server.end_connections(name)
    with pytest.raises(StoreUnavailable):
        await ledger.database.check()
    assert await ledger.depth() == 0


async def test_a_check_waits_for_no_migration(ledger: SqlLedger, own_server: Server, name: str) -> None:
    with psycopg.connect(own_server.url(name)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = version_num")
        async with asyncio.timeout(30):
            await ledger.database.check()


async def test_opening_where_no_server_is_says_that_the_ledger_is_away(own_server: Server, name: str) -> None:
    own_server.stop()
    try:
        with pytest.raises(StoreUnavailable):
            await Database.open(own_server.url(name))
    finally:
        own_server.start()


async def test_connections_that_the_server_ended_meanwhile_are_replaced_unnoticed(
    ledger: SqlLedger, own_server: Server, name: str
) -> None:
    await asyncio.gather(*(ledger.submit(work(f"r{number}"), APP) for number in range(8)), ledger.depth())
    assert own_server.end_connections(name) > 0
    await asyncio.gather(*(ledger.submit(work(f"s{number}"), APP) for number in range(8)))
    assert await ledger.depth() == 16


async def test_a_connection_that_ends_within_a_transaction_fails_it_alone_and_writes_nothing_of_it(
    ledger: SqlLedger,
) -> None:
    def end_itself(connection: Connection) -> None:
        connection.exec_driver_sql("INSERT INTO turn (priority, key, claimed) VALUES (0, 'half', 1)")
        connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(StoreUnavailable):
        await ledger.database.write(end_itself)
    count = "SELECT count(*) FROM turn WHERE key = 'half'"
    assert await ledger.database.read(lambda connection: connection.exec_driver_sql(count).scalar_one()) == 0
    await ledger.submit(work("a"), APP)


async def test_a_server_that_hangs_keeps_nobody_waiting_and_works_when_it_goes_on(
    ledger: SqlLedger, own_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = await claimed(ledger, "a")
    with own_server.suspended():
        monkeypatch.setattr(transactions, "ANSWER_S", AWAY_S)
        asked = monotonic()
        calls = [ledger.depth() for _ in range(200)] + [ledger.submit(work(f"r{at}"), APP) for at in range(200)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, StoreUnavailable) for result in results)
        assert AWAY_S <= monotonic() - asked < 20 * AWAY_S  # in turn on four threads they would take 50
        monkeypatch.undo()
    assert await ledger.finish(claim, Outcome.OK, OK)
    # of what hung, those that had begun may be written, and no others: whoever was refused is not served twice
    assert await ledger.depth() <= 4
    await ledger.submit(work("after"), APP)
    assert await state(ledger, "after") == (State.QUEUED, None)


async def test_a_ledger_whose_server_hangs_can_be_closed(
    own_server: Server, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = await SqlLedger.open(own_server.url(name))
    pool = ledger.database._engine.pool
    with own_server.suspended():
        monkeypatch.setattr(transactions, "ANSWER_S", AWAY_S)
        results = await asyncio.gather(*(ledger.depth() for _ in range(8)), return_exceptions=True)
        assert all(isinstance(result, StoreUnavailable) for result in results)
        monkeypatch.setattr(transactions, "ANSWER_S", 3 * AWAY_S)
        asked = monotonic()
        await ledger.close()
        assert monotonic() - asked < 10 * AWAY_S  # it waits for all four readers together
    for thread in ledger.database._transactions._readers:
        await asyncio.to_thread(thread.join, 10)
    pool.dispose()  # of what came back after the end
