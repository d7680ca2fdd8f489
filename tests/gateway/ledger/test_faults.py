"""A SQLite file that fails is a ledger that is away; a statement that is wrong is not."""

import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from gateway.errors import StoreUnavailable
from gateway.ledger import database
from gateway.ledger.models import State
from gateway.ledger.store import SqlLedger
from tests.gateway.ledger.works import APP, claimed, state, work


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "ledger.db"


@pytest.fixture
async def sqlite(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqlLedger]:
    """A ledger whose patience is short, with one request."""
    monkeypatch.setattr(database, "_BUSY_TIMEOUT_MS", 100)
    opened = await SqlLedger.open(f"sqlite:///{path}")
    await opened.submit(work("a"), APP)
    yield opened
    await opened.close()


@contextmanager
def set_up(ledger: SqlLedger, *statements: str) -> Iterator[None]:
    """Have each connection say `statements` before each of its transactions."""

    def say(connection: sqlite3.Connection, *_: object) -> None:
        for statement in statements:
            connection.execute(statement)

    engine = ledger.database._engine
    event.listen(engine, "checkout", say)
    try:
        yield
    finally:
        event.remove(engine, "checkout", say)


async def works_again(ledger: SqlLedger) -> None:
    await ledger.submit(work("after"), APP)
    assert await state(ledger, "after") == (State.QUEUED, None)


async def test_a_write_lock_that_is_held_too_long_is_a_ledger_that_is_away(sqlite: SqlLedger, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable) as away:
            await sqlite.submit(work("b"), APP)
        assert (away.value.store, away.value.status) == ("ledger", 503)
        with pytest.raises(StoreUnavailable):
            await sqlite.database.check()
        assert await state(sqlite, "a") == (State.QUEUED, None)
    await works_again(sqlite)
    assert await sqlite.status("b", APP) is None


async def test_a_disk_that_takes_no_writes_is_a_ledger_that_is_away(sqlite: SqlLedger) -> None:
    with set_up(sqlite, "PRAGMA query_only = ON"):
        with pytest.raises(StoreUnavailable):
            await sqlite.submit(work("b"), APP)
        with pytest.raises(StoreUnavailable):
            await sqlite.database.check()
        assert await sqlite.depth() == 1
    with set_up(sqlite, "PRAGMA query_only = OFF"):
        await sqlite.database.check()
        await works_again(sqlite)


async def test_a_check_writes_to_the_disk_and_changes_nothing(sqlite: SqlLedger, path: Path) -> None:
    log = path.with_name(path.name + "-wal")
    before = os.stat(log).st_size
    await sqlite.database.check()
    assert os.stat(log).st_size > before
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA user_version").fetchone() == (0,)


async def test_a_full_disk_is_a_ledger_that_is_away_and_keeps_what_it_has(sqlite: SqlLedger) -> None:
    claim = await claimed(sqlite, "a2")
    long = [("INFO", "x" * 200_000)]
    with set_up(sqlite, "PRAGMA max_page_count = 1"):
        with pytest.raises(StoreUnavailable):
            await sqlite.log(claim, long)
        assert await sqlite.logs(claim.work.request_id) == []
    with set_up(sqlite, "PRAGMA max_page_count = 100000"):
        await sqlite.log(claim, long)
    await works_again(sqlite)


@pytest.mark.parametrize("way", ["deleted", "moved", "replaced"])
async def test_nothing_is_accepted_into_a_file_that_is_no_longer_there(
    sqlite: SqlLedger, path: Path, tmp_path: Path, way: str
) -> None:
    """SQLite would go on with the file that it has opened, and all of it would be lost."""
    copy = shutil.copytree(path.parent, tmp_path / "copy")
    if way == "deleted":
        shutil.rmtree(path.parent)
    else:
        path.parent.rename(tmp_path / "elsewhere")
    if way == "replaced":
        copy.rename(path.parent)
    with pytest.raises(StoreUnavailable):
        await sqlite.submit(work("b"), APP)
    with pytest.raises(StoreUnavailable):
        await sqlite.status("a", APP)


@pytest.mark.parametrize("statement", ["SELECT nothing FROM request", "SELEKT 1", "SELECT * FROM nowhere"])
async def test_a_statement_that_is_wrong_is_no_ledger_that_is_away(ledger: SqlLedger, statement: str) -> None:
    for call in (ledger.database.read, ledger.database.write):
        with pytest.raises(DBAPIError) as wrong:
            await call(lambda connection: connection.execute(text(statement)))
        assert not isinstance(wrong.value, StoreUnavailable)


async def test_a_doubled_id_is_no_ledger_that_is_away(ledger: SqlLedger) -> None:
    await ledger.submit(work("a"), APP)
    with pytest.raises(IntegrityError):
        await ledger.submit(work("a"), APP)
    assert await ledger.depth() == 1


async def test_a_fault_of_the_disk_inside_a_piece_is_a_ledger_that_is_away(ledger: SqlLedger) -> None:
    def fail(_: object) -> None:
        raise OSError("disk")

    with pytest.raises(StoreUnavailable) as away:
        await ledger.database.write(fail)
    assert isinstance(away.value.__cause__, OSError)


async def test_a_ledger_that_is_closed_is_away(url: str) -> None:
    ledger = await SqlLedger.open(url)
    await ledger.close()
    with pytest.raises(StoreUnavailable):
        await ledger.depth()
    with pytest.raises(StoreUnavailable):
        await ledger.submit(work("a"), APP)
