"""`python -m gateway.ledger backup` and `restore`: all of a service into one folder and back, or one sentence."""

import asyncio
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from gateway import backup as module
from gateway.backup import back_up, restore
from gateway.files.backends import LocalFiles
from gateway.files.base import FileTerms
from gateway.keys.base import KeyLimits
from gateway.keys.sql import SqlKeys
from gateway.ledger.__main__ import main
from gateway.ledger.database import TABLES, Database
from gateway.ledger.models import Outcome, State, Terms
from gateway.ledger.store import SqlLedger
from gateway.ledger.tables import metadata
from gateway.local_state import identity_of
from gateway.settings import GatewaySettings
from tests.gateway.ledger.postgresql import Server
from tests.gateway.ledger.works import APP, OK, state, work

INPUT, OUTPUT, UPLOAD = (
    "inputs/00000000-0000-4000-8000-000000000001/0.png",
    "outputs/00000000-0000-4000-8000-000000000002/image.jpeg",
    "uploads/00000000-0000-4000-8000-000000000003/photo.png",
)


@pytest.fixture
def settings(tmp_path: Path, url: str) -> GatewaySettings:
    return GatewaySettings(data_dir=tmp_path / "data", ledger_url=None if url.startswith("sqlite") else url)


@pytest.fixture
def elsewhere(tmp_path: Path, url: str, request: pytest.FixtureRequest) -> Iterator[GatewaySettings]:
    """An empty place of the same kind."""
    if url.startswith("sqlite"):
        yield GatewaySettings(data_dir=tmp_path / "new")
        return
    server: Server = request.getfixturevalue("postgresql")
    name = f"restored_{uuid4().hex}"
    yield GatewaySettings(data_dir=tmp_path / "new", ledger_url=server.create(name))
    server.drop(name)


def words(settings: GatewaySettings, *command: object) -> list[str]:
    place = ["--data-dir", str(settings.data_dir)]
    return [*place, *(["--ledger-url", settings.ledger_url] if settings.ledger_url else []), *map(str, command)]


def refused(settings: GatewaySettings, *command: object) -> str:
    """The one sentence with which the command ends."""
    with pytest.raises(SystemExit) as ended:
        main(words(settings, *command))
    said = str(ended.value)
    assert len(said.splitlines()) == 1
    assert "Traceback" not in said
    return said


async def serve(settings: GatewaySettings) -> SqlLedger:
    """One request that has ended, one that waits, a key, an upload that expires, the secrets."""
    ledger, files = await SqlLedger.open(settings.ledger_address), LocalFiles(settings.data_dir)
    await ledger.submit(work("ended"), APP)
    (claim,) = await ledger.claim("one", 1, 60)
    await files.put(OUTPUT, b"drawn", "image/jpeg", FileTerms(owner="k1"))
    assert await ledger.finish(claim, Outcome.OK, OK)
    await files.put(INPUT, b"given", "image/png")
    await files.put(UPLOAD, b"sent", "image/png", FileTerms(expires_at=4e9, file_name="Foto ä.png"))
    await ledger.submit(work("waiting"), APP, Terms(key="k1"))
    await SqlKeys(ledger.database).create("somebody", [], KeyLimits(3))
    (settings.data_dir / "token_secret").touch(0o600)
    (settings.data_dir / "token_secret").write_bytes(b"s" * 32)
    identity_of(settings.data_dir)
    return ledger


def contents(folder: Path) -> dict[str, bytes]:
    """All files of the store, their notes with them, and the secrets."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if "ledger.db" not in path.name}


async def test_a_restore_serves_the_old_results_and_goes_on(
    settings: GatewaySettings, elsewhere: GatewaySettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = await serve(settings)
    await asyncio.to_thread(main, words(settings, "backup", tmp_path / "backup"))
    await ledger.close()
    kept = contents(settings.data_dir)
    shutil.rmtree(settings.data_dir)

    await asyncio.to_thread(main, words(elsewhere, "restore", tmp_path / "backup"))
    assert re.fullmatch(
        r"Backed up into \S+: the ledger as it was at \S+ \S+ UTC, 3 files\.\n"
        r"Restored \S+: the ledger as it was at \S+ \S+ UTC, 3 files\.\n",
        capsys.readouterr().out,
    )
    assert contents(elsewhere.data_dir) == kept
    assert (elsewhere.data_dir / "token_secret").stat().st_mode & 0o777 == 0o600
    files = LocalFiles(elsewhere.data_dir)
    upload = await files.stat(UPLOAD)
    assert upload is not None
    assert (upload.terms.expires_at, upload.terms.file_name) == (4e9, "Foto ä.png")
    again = await SqlLedger.open(elsewhere.ledger_address)
    assert await again.answer("ended", APP) == OK
    (key,) = await SqlKeys(again.database).all()
    assert (key.name, key.limits) == ("somebody", KeyLimits(3))
    await again.submit(work("new"), APP)  # whose number is the next one, not one that is taken
    assert [claim.work.request_id for claim in await again.claim("two", 9, 60)] == ["waiting", "new"]
    await again.close()


async def test_one_file_is_told_as_one(
    settings: GatewaySettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await (await SqlLedger.open(settings.ledger_address)).close()
    await LocalFiles(settings.data_dir).put(INPUT, b"given", "image/png")
    await asyncio.to_thread(main, words(settings, "backup", tmp_path / "backup"))
    assert capsys.readouterr().out.endswith(" UTC, 1 file.\n")


async def test_a_request_that_is_accepted_meanwhile_is_in_it_wholly_or_not_at_all(
    settings: GatewaySettings, elsewhere: GatewaySettings, tmp_path: Path
) -> None:
    """Each has its picture in place before its row, as the service has it."""
    ledger, files = await SqlLedger.open(settings.ledger_address), LocalFiles(settings.data_dir)
    number, over, some, more = 0, asyncio.Event(), asyncio.Event(), asyncio.Event()

    def picture(number: int) -> str:
        return f"inputs/00000000-0000-4000-8000-{number:012d}/0.png"

    async def accept() -> None:
        nonlocal number
        while not over.is_set():
            await files.put(picture(number), b"given", "image/png")
            await ledger.submit(work(str(number)), APP)
            await ledger.submit(work(f"also {number}"), APP)
            number += 1
            if number == 5:
                some.set()
            more.set()

    accepting = asyncio.create_task(accept())
    await some.wait()
    await asyncio.to_thread(back_up, settings, tmp_path / "backup")
    before = number
    more.clear()
    await more.wait()
    over.set()
    await accepting
    await ledger.close()

    await asyncio.to_thread(restore, elsewhere, tmp_path / "backup")
    again, stored = await SqlLedger.open(elsewhere.ledger_address), LocalFiles(elsewhere.data_dir)
    names = [name for name in map(str, range(number)) if await again.status(name, APP) is not None]
    assert 5 <= len(names) <= before + 1
    assert names == [str(one) for one in range(len(names))]  # up to one moment, and nothing after it
    for name in names:
        assert await state(again, name) == (State.QUEUED, None)
        assert await stored.get(picture(int(name))) is not None
    assert await again.depth() in (2 * len(names) - 1, 2 * len(names))
    await again.close()


async def test_the_picture_of_a_request_that_ends_between_ledger_and_files_is_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is why the ledger comes first: with the files first, this request would be there without its picture."""
    settings, new = GatewaySettings(data_dir=tmp_path / "data"), GatewaySettings(data_dir=tmp_path / "new")
    ledger, loop = await serve(settings), asyncio.get_running_loop()
    late = OUTPUT.replace("image", "late")
    steps: list[str] = []

    async def end() -> None:
        (claim,) = await ledger.claim("one", 1, 60)
        await LocalFiles(settings.data_dir).put(late, b"late", "image/jpeg")
        await ledger.finish(claim, Outcome.OK, OK)

    def watched(name: str) -> Callable[..., object]:
        real: Callable[..., object] = getattr(module, name)

        def step(*arguments: object) -> object:
            steps.append(name)
            if len(steps) == 2:
                asyncio.run_coroutine_threadsafe(end(), loop).result(20)
            return real(*arguments)

        return step

    with monkeypatch.context() as patched:
        for name in ("copy_database", "_copy_files"):
            patched.setattr(module, name, watched(name))
        await asyncio.to_thread(back_up, settings, tmp_path / "backup")
    assert len(steps) == 2
    assert await ledger.answer("waiting", APP) == OK
    await ledger.close()
    await asyncio.to_thread(restore, new, tmp_path / "backup")
    again = await SqlLedger.open(new.ledger_address)
    assert (new.data_dir / late).exists() or await state(again, "waiting") == (State.QUEUED, None)
    await again.close()


async def test_a_place_that_is_not_empty_is_refused_and_left_as_it_is(
    settings: GatewaySettings, elsewhere: GatewaySettings, tmp_path: Path
) -> None:
    ledger = await serve(settings)
    backup = tmp_path / "backup"
    await asyncio.to_thread(main, words(settings, "backup", backup))
    before = contents(settings.data_dir)
    assert "into an empty place only" in await asyncio.to_thread(refused, settings, "restore", backup)
    assert f"The folder {backup} is not empty" in await asyncio.to_thread(refused, settings, "backup", backup)
    assert contents(settings.data_dir) == before
    assert await ledger.answer("ended", APP) == OK
    await ledger.close()

    await LocalFiles(elsewhere.data_dir).put(INPUT, b"another", "image/png")
    assert str(elsewhere.data_dir / "inputs") in await asyncio.to_thread(refused, elsewhere, "restore", backup)
    assert (elsewhere.data_dir / INPUT).read_bytes() == b"another"


async def test_what_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, new = GatewaySettings(data_dir=tmp_path / "data"), GatewaySettings(data_dir=tmp_path / "new")
    backup = tmp_path / "backup"
    await (await serve(settings)).close()

    def fail(*_: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module, "_copy_files", fail)
        assert await asyncio.to_thread(refused, settings, "backup", backup) == "No space left on device"
    assert not backup.exists()
    await asyncio.to_thread(main, words(settings, "backup", backup))
    with monkeypatch.context() as patched:
        patched.setattr(module, "restore_database", fail)
        await asyncio.to_thread(refused, new, "restore", backup)
    await asyncio.to_thread(main, words(new, "restore", backup))


async def test_a_restore_that_postgresql_refuses_is_one_sentence_and_leaves_nothing(
    postgresql_url: str, tmp_path: Path
) -> None:
    settings = GatewaySettings(data_dir=tmp_path / "data", ledger_url=postgresql_url)
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "ledger.dump").write_bytes(b"no dump")
    (tmp_path / "backup" / "backup.json").write_text('{"ledger": "ledger.dump", "begun": "2026-01-01T00:00:00+00:00"}')
    assert "pg_restore failed: " in await asyncio.to_thread(refused, settings, "restore", tmp_path / "backup")
    assert list(settings.data_dir.iterdir()) == []


async def test_wrong_input_is_one_sentence(settings: GatewaySettings, tmp_path: Path) -> None:
    nowhere = GatewaySettings(data_dir=tmp_path / "wrong", ledger_url=settings.ledger_url)
    assert "There is no folder" in await asyncio.to_thread(refused, nowhere, "backup", tmp_path / "backup")
    settings.data_dir.mkdir()
    assert "There is no ledger at" in await asyncio.to_thread(refused, settings, "backup", tmp_path / "backup")
    assert list(settings.data_dir.iterdir()) == []
    assert "no backup.json" in await asyncio.to_thread(refused, settings, "restore", tmp_path / "nothing")
    inside = settings.data_dir / "backup"
    assert "would be lost with" in await asyncio.to_thread(refused, settings, "backup", inside)

    await (await Database.open(settings.ledger_address)).close()
    backup = tmp_path / "backup"
    await asyncio.to_thread(main, words(settings, "backup", backup))
    other = GatewaySettings(data_dir=tmp_path / "other", ledger_url=None if settings.ledger_url else "postgresql://h/d")
    assert "another kind of database" in await asyncio.to_thread(refused, other, "restore", backup)
    (backup / "backup.json").write_text("{")
    assert "cannot be read" in await asyncio.to_thread(refused, other, "restore", backup)


def test_a_database_that_is_away_is_one_sentence_without_its_password(tmp_path: Path) -> None:
    away = GatewaySettings(data_dir=tmp_path, ledger_url="postgresql://me:geheim@127.0.0.1:1/ledger")
    said = refused(away, "backup", tmp_path.with_name("backup"))
    assert said.startswith("The ledger at postgresql://me:***@127.0.0.1:1/ledger cannot be reached: ")
    assert "geheim" not in said


async def test_what_would_damage_a_sqlite_file_is_not_restored(tmp_path: Path) -> None:
    settings, new = GatewaySettings(data_dir=tmp_path / "data"), GatewaySettings(data_dir=tmp_path / "new")
    await (await Database.open(settings.ledger_address)).close()
    await asyncio.to_thread(main, words(settings, "backup", tmp_path / "backup"))
    copy = tmp_path / "backup" / "ledger.db"
    copy.write_bytes(copy.read_bytes()[:5000])
    assert "is damaged" in await asyncio.to_thread(refused, new, "restore", tmp_path / "backup")
    assert not new.data_dir.exists()

    new.data_dir.mkdir()
    (new.data_dir / "ledger.db-wal").touch()  # of a former file, it would be taken for the restored one's
    assert "ledger.db-wal" in await asyncio.to_thread(refused, new, "restore", tmp_path / "backup")


async def test_without_pg_dump_it_is_said_where_it_comes_from(
    postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = GatewaySettings(data_dir=tmp_path / "data", ledger_url=postgresql_url)
    await (await Database.open(settings.ledger_address)).close()
    settings.data_dir.mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "postgresql-client" in await asyncio.to_thread(refused, settings, "backup", tmp_path / "backup")


def test_all_tables_are_copied() -> None:
    assert set(TABLES) == set(metadata.tables)
