"""The SQLite file and what lies beside it: damage that is named, a log that gives its space back."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.ledger import database
from gateway.ledger.database import Database, LedgerUnusable
from gateway.ledger.store import SqlLedger
from tests.gateway.ledger.works import APP, claimed, work

MIB = 1024 * 1024


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def empty(path: Path) -> Path:
    path.touch()
    return path


def over(content: bytes, at: int, length: int) -> bytes:
    return content[:at] + b"\xa5" * length + content[at + length :]


def change(path: Path, how: Callable[[bytes], bytes]) -> bytes:
    changed = how(path.read_bytes())
    path.write_bytes(changed)
    return changed


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "no database": lambda content: b"dear diary\n" * 1000,
    "header": lambda content: over(content, 0, 100),
    "page size": lambda content: over(content, 16, 2),
    "schema": lambda content: over(content, 100, 3000),
    "text of the schema": lambda content: content.replace(b"CREATE TABLE delivery (", b"CREATE TABLE deliver [\xcd"),
    "page in the middle": lambda content: over(content, len(content) // 2 // 4096 * 4096, 4096),
    "half": lambda content: content[: len(content) // 2 // 4096 * 4096],
    "half a page": lambda content: content[:2048],
    "header alone": lambda content: content[:100],
    "last bytes": lambda content: content[:-100],
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_file_is_named_and_left_as_it_is(sqlite_url: str, path: Path, damage: str) -> None:
    ledger = await SqlLedger.open(sqlite_url)
    for number in range(100):
        await ledger.submit(work(f"r{number}"), APP)
    await ledger.close()
    damaged = change(path, DAMAGES[damage])
    with pytest.raises(LedgerUnusable) as unusable:
        await Database.open(sqlite_url)
    said = str(unusable.value)
    assert f"The ledger {path} is damaged" in said
    assert len(said.splitlines()) == 1
    assert change(path, lambda content: content) == damaged


async def test_an_empty_file_is_a_new_ledger(sqlite_url: str, empty: Path) -> None:
    ledger = await SqlLedger.open(sqlite_url)
    await ledger.submit(work("a"), APP)
    await ledger.close()


def log_of(path: Path) -> int:
    return path.with_name("ledger.db-wal").stat().st_size


async def test_the_write_ahead_log_gives_its_space_back(sqlite_url: str, path: Path) -> None:
    ledger = await SqlLedger.open(sqlite_url)
    await ledger.log(await claimed(ledger, "a"), [("INFO", "x" * MIB)])
    assert log_of(path) > MIB
    assert await ledger.database.shrink() == 0
    assert log_of(path) == 0
    assert len(await ledger.logs("a")) == 1
    await ledger.close()


async def test_the_write_ahead_log_does_not_stay_as_large_as_it_once_was(
    sqlite_url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert database._WAL_BYTES == 16 * MIB
    monkeypatch.setattr(database, "_WAL_BYTES", MIB)
    ledger = await SqlLedger.open(sqlite_url)
    await ledger.log(await claimed(ledger, "a"), [("INFO", "x" * 8 * MIB)])
    assert log_of(path) > 8 * MIB
    await ledger.submit(work("b"), APP)
    assert log_of(path) <= MIB
    await ledger.close()


async def test_a_ledger_on_a_server_has_nothing_to_shrink(postgresql_url: str) -> None:
    opened = await Database.open(postgresql_url)
    assert await opened.shrink() == 0
    await opened.close()
