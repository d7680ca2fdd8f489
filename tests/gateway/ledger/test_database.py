"""Opening the ledger's database: migrations, durability settings, several processes."""

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path
from threading import Barrier

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from gateway.ledger.database import Database, migrate
from gateway.ledger.models import Outcome, State, Terms
from gateway.ledger.store import SqlLedger
from gateway.ledger.tables import metadata
from tests.gateway.ledger.works import APP, OK, Clock, engine_of, state, work

CLAIMER = """
import asyncio, sys
from gateway.ledger.store import SqlLedger

async def main(url, owner):
    ledger = await SqlLedger.open(url)
    while claims := await ledger.claim(owner, 7, 60):
        for claim in claims:
            print(claim.work.request_id)
    await ledger.close()

asyncio.run(main(*sys.argv[1:]))
"""

FIRST_REVISION = """
INSERT INTO request (id, app, endpoint, state, priority, attempt, cancel_requested, sync, created_at, work)
VALUES (:id, 'fal-ai/fooocus', 'fal-ai/fooocus', 'queued', 0, 0, false, false, '2025-01-01 00:00:00', :work)
"""
FIRST_LINE = """
INSERT INTO log (request_seq, number, at, level, message) VALUES (1, 1, '2025-01-01 00:00:00', 'INFO', 'x')
"""


async def test_the_revisions_build_the_tables_that_the_code_uses(url: str) -> None:
    database = await Database.open(url)

    def differences(connection: Connection) -> object:
        return compare_metadata(MigrationContext.configure(connection), metadata)

    assert await database.write(differences) == []
    await database.close()


async def test_what_the_first_revision_accepted_is_not_lost(url: str, tmp_path: Path, clock: Clock) -> None:
    engine = engine_of(url)
    with engine.begin() as connection:
        migrate(connection, "0001")
        for number in range(3):
            values = {"id": f"old{number}", "work": work(f"old{number}").model_dump_json()}
            connection.execute(text(FIRST_REVISION), values)
        connection.execute(text(FIRST_LINE))
    engine.dispose()
    ledger = await SqlLedger.open(url, clock, backups=tmp_path)
    await ledger.submit(work("new"), APP, Terms(key="k1"))
    claims = await ledger.claim("one", 9, 60)
    assert [claim.work.request_id for claim in claims] == ["old0", "new", "old1", "old2"]
    await ledger.log(claims[0], [("INFO", "y")])
    assert [entry.number for entry in await ledger.logs("old0")] == [1, 2]
    assert await ledger.finish(claims[0], Outcome.OK, OK)
    assert await state(ledger, "old0") == (State.DONE, Outcome.OK)
    await ledger.close()


async def test_every_connection_to_sqlite_is_durable_and_patient(sqlite_url: str) -> None:
    database = await Database.open(sqlite_url)
    meet = Barrier(3)  # so that each has a connection of its own

    def settings(connection: Connection) -> dict[str, object]:
        meet.wait(10)
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        return {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names}

    found = await asyncio.gather(database.read(settings), database.read(settings), database.write(settings))
    assert found == [{"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}] * 3
    await database.close()


@pytest.mark.parametrize("driver", ["aiosqlite", "asyncpg", "psycopg2"])
async def test_a_driver_that_is_named_is_replaced(driver: str, request: pytest.FixtureRequest) -> None:
    kind = "sqlite" if driver == "aiosqlite" else "postgresql"
    url = str(request.getfixturevalue(f"{kind}_url"))
    ledger = await SqlLedger.open(url.replace(f"{kind}:", f"{kind}+{driver}:"))
    await ledger.submit(work("a"), APP)
    await ledger.close()


async def test_a_failed_transaction_leaves_nothing(ledger: SqlLedger) -> None:
    await ledger.submit(work("a"), APP)
    with pytest.raises(Exception, match=r"(?i)unique"):
        await ledger.submit(work("a"), APP)
    assert await ledger.depth() == 1


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://h/d", "postgresql://h"])
async def test_an_address_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="sqlite"):
        await Database.open(url)


async def test_writers_that_read_first_wait_for_each_other(url: str) -> None:
    """Without the write lock from the beginning, one of them would find its reading outdated and fail."""
    ledgers = [await SqlLedger.open(url) for _ in range(2)]
    await ledgers[0].submit(work("a"), APP)
    (claim,) = await ledgers[0].claim("one", 1, 60)
    await asyncio.gather(*(ledger.log(claim, [("INFO", "line")]) for _ in range(20) for ledger in ledgers))
    assert [entry.number for entry in await ledgers[0].logs("a")] == list(range(1, 41))
    for ledger in ledgers:
        await ledger.close()


async def test_processes_that_start_together_claim_each_request_once(url: str) -> None:
    """All three first create the same new file at the same time."""
    starters = [_start(url, f"p{i}") for i in range(3)]
    assert [_output(process) for process in starters] == [[], [], []]
    ledger = await SqlLedger.open(url)
    names = [f"r{i}" for i in range(300)]
    for name in names:
        await ledger.submit(work(name), APP)
    claimers = [_start(url, f"p{i}") for i in range(3)]
    claimed = [name for process in claimers for name in _output(process)]
    assert Counter(claimed) == Counter(names)
    await ledger.close()


def _start(url: str, owner: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", CLAIMER, url, owner], stdout=subprocess.PIPE, text=True)


def _output(process: subprocess.Popen[str]) -> list[str]:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return output.split()
