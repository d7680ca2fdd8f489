"""A ledger of an earlier version goes on, after a backup; one of a later version is left alone."""

import logging
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from gateway.ledger import database
from gateway.ledger.copying import copy_name, restore_database
from gateway.ledger.database import Database, LedgerUnusable, migrate
from gateway.ledger.models import Answer, Outcome, State
from gateway.ledger.opening import open_ledger
from gateway.ledger.outbox import DeliveryState
from gateway.ledger.store import SqlLedger
from gateway.ledger.tables import metadata
from gateway.ledger_address import parse
from gateway.settings import GatewaySettings
from tests.gateway.ledger.former import HOOK, REVISION, insert_request, write_ledger
from tests.gateway.ledger.works import APP, OK, Clock, engine_of, state


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def former(sqlite_url: str, clock: Clock) -> str:
    """The address of a file of the former version."""
    write_ledger(sqlite_url, clock.now)
    return sqlite_url


def backups(path: Path) -> list[str]:
    return sorted(found.name for found in path.parent.iterdir() if "backup" in found.name)


def revision(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


async def test_a_ledger_of_the_former_version_goes_on(url: str, tmp_path: Path, clock: Clock) -> None:
    write_ledger(url, clock.now)
    ledger = await SqlLedger.open(url, clock, backups=tmp_path)
    assert await ledger.answer("ended", APP) == Answer(200, {"images": []})
    assert await state(ledger, "running") == (State.RUNNING, None)
    assert [claim.work.request_id for claim in await ledger.claim("new", 9, 60)] == ["queued5", "queued6"]
    clock.turn(11)
    assert await ledger.expire() == 1
    (again,) = await ledger.claim("new", 9, 60)
    assert (again.work.request_id, again.attempt) == ("running", 2)
    assert await ledger.finish(again, Outcome.OK, OK)
    run = await ledger.answer("run", APP)
    assert run is not None
    assert (run.status, run.error_type) == (503, "runner_disconnected")
    await ledger.close()


async def test_a_webhook_that_the_former_version_owed_is_delivered_once(url: str, tmp_path: Path, clock: Clock) -> None:
    write_ledger(url, clock.now)
    ledger = await SqlLedger.open(url, clock, backups=tmp_path)
    (delivery,) = await ledger.outbox.claim("sender", 9, 20)
    assert (delivery.request_id, delivery.url, delivery.attempt) == ("ended", HOOK, 1)
    assert await ledger.outbox.delivered(delivery)
    clock.turn(60)
    assert await ledger.outbox.claim("sender", 9, 20) == []
    sent = await ledger.outbox.of("ended")
    assert sent is not None
    assert sent.state is DeliveryState.DELIVERED
    await ledger.close()


async def test_a_process_of_the_former_version_may_go_on_while_all_are_replaced(url: str, clock: Clock) -> None:
    ledger = await SqlLedger.open(url, clock)
    engine = engine_of(url)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO turn (priority, key, claimed) VALUES (0, 'k1', -1)"))
        insert_request(connection, "old", clock.now)
    engine.dispose()
    clock.turn(3600)
    assert await ledger.expire() == 0
    (claim,) = await ledger.claim("new", 9, 60)
    assert await ledger.running(claim)
    assert await ledger.finish(claim, Outcome.OK, OK)
    assert await ledger.answer("old", APP) == OK
    await ledger.close()


@pytest.mark.parametrize("earlier", ["0001", REVISION])
async def test_a_file_is_copied_before_its_schema_is_changed(sqlite_url: str, path: Path, earlier: str) -> None:
    engine = engine_of(sqlite_url)
    with engine.begin() as connection:
        migrate(connection, earlier)
    engine.dispose()
    await (await Database.open(sqlite_url)).close()
    assert backups(path) == [f"ledger-{earlier}.backup.db"]
    copy = path.with_name(f"ledger-{earlier}.backup.db")
    assert copy.stat().st_mode & 0o777 == 0o600
    assert (revision(copy), revision(path) > earlier) == (earlier, True)


async def test_a_backup_has_all_that_was_committed_and_can_be_gone_back_to(
    former: str, path: Path, tmp_path: Path, clock: Clock
) -> None:
    with closing(sqlite3.connect(path)) as still_open:  # so that what is committed is not yet in the file itself
        still_open.execute("PRAGMA journal_mode = WAL")
        still_open.execute("UPDATE request SET owner = 'late' WHERE id = 'running'")
        still_open.commit()
        await (await Database.open(former)).close()
    copy = path.with_name(f"ledger-{REVISION}.backup.db")
    with closing(sqlite3.connect(copy)) as connection:
        columns = {row[1] for row in connection.execute("PRAGMA table_info(request)")}
        assert "listener" not in columns
        assert connection.execute("SELECT owner FROM request WHERE id = 'running'").fetchone() == ("late",)
    restored = shutil.copy(copy, tmp_path / "restored.db")
    ledger = await SqlLedger.open(f"sqlite:///{restored}", clock)
    assert len((await ledger.history.list()).entries) == 5
    await ledger.close()


async def test_a_backup_is_on_the_disk_before_the_tables_change(
    former: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(file: int) -> None:
        done.append(Path(f"/proc/self/fd/{file}").readlink().name)
        fsync(file)

    def replaced(aside: Path, copy: Path) -> None:
        done.append("named")
        replace(aside, copy)

    def migrated(connection: database.Connection) -> None:
        done.append("migrated")
        migrate(connection)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    monkeypatch.setattr(database, "migrate", migrated)
    await (await Database.open(former)).close()
    assert done == [f".ledger-{REVISION}.backup.db.part", "named", path.parent.name, "migrated"]


async def test_the_log_says_where_the_backup_is_and_it_can_be_gone_back_to(
    url: str, tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    write_ledger(url, clock.now)
    settings = GatewaySettings(data_dir=tmp_path, ledger_url=url)
    await (await open_ledger(settings)).close()
    parsed = parse(url)
    copy = tmp_path / copy_name(parsed, f"ledger-{REVISION}.backup")
    (said,) = [record for record in caplog.records if record.name == "fooocus.gateway"]
    assert said.levelno >= logging.WARNING  # shown where nobody has set up logging
    assert f"from version {REVISION} to " in said.getMessage()
    assert said.getMessage().endswith(f" {copy}.")
    assert copy.stat().st_mode & 0o777 == 0o600

    engine = engine_of(url)
    with engine.begin() as connection:
        metadata.drop_all(connection)
        connection.execute(text("DROP TABLE alembic_version"))
    engine.dispose()
    restore_database(copy, parsed)
    engine = engine_of(url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == REVISION
        assert connection.execute(text("SELECT count(*) FROM request")).scalar_one() == 5
        assert "listener" not in {column["name"] for column in inspect(connection).get_columns("request")}
    engine.dispose()
    caplog.clear()
    await (await open_ledger(settings)).close()
    await (await open_ledger(settings)).close()
    assert len([record for record in caplog.records if record.name == "fooocus.gateway"]) == 1


async def test_without_its_backup_a_postgresql_ledger_is_left_as_it_is(
    postgresql_url: str, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ledger(postgresql_url, clock.now)
    with pytest.raises(LedgerUnusable, match="no folder is named for the backup"):
        await Database.open(postgresql_url)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LedgerUnusable, match=r"backup .* failed: .*postgresql-client"):
        await Database.open(postgresql_url, tmp_path)
    engine = engine_of(postgresql_url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == REVISION
    engine.dispose()


async def test_a_ledger_that_is_new_or_current_is_not_copied(sqlite_url: str, path: Path) -> None:
    for _ in range(2):
        await (await Database.open(sqlite_url)).close()
    assert backups(path) == []


async def test_a_migration_that_fails_leaves_the_ledger_as_it_was(
    former: str, path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: database.Connection) -> None:
        migrate(connection)
        raise RuntimeError("power")

    with monkeypatch.context() as patched:
        patched.setattr(database, "migrate", fail)
        with pytest.raises(RuntimeError, match="power"):
            await Database.open(former)
    assert revision(path) == REVISION
    ledger = await SqlLedger.open(former, clock)
    assert await ledger.depth() == 2
    await ledger.close()


async def test_a_ledger_of_a_later_version_is_left_alone(url: str) -> None:
    await (await Database.open(url)).close()
    engine = engine_of(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(LedgerUnusable, match=r"newer version of this service \(schema 9999, this one knows \d+\)") as e:
        await Database.open(url)
    assert len(str(e.value).splitlines()) == 1
    with engine.begin() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "9999"
    engine.dispose()
