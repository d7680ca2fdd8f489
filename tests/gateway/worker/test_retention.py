"""Retention: what is old goes with its files, what may not be stored goes soon, and the rest stays."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import uuid4

import pytest

from gateway.errors import StoreUnavailable
from gateway.files.backends import LocalFiles
from gateway.files.store import FileStore
from gateway.ledger.models import Outcome, Terms
from gateway.ledger.store import SqlLedger, utc_now
from gateway.settings import GatewaySettings
from gateway.worker import reaper as module
from gateway.worker.reaper import Retention
from tests.gateway.ledger.works import APP, OK, work

DAY_S = 86_400


@pytest.fixture
def files(settings: GatewaySettings) -> LocalFiles:
    return LocalFiles(settings.data_dir)


async def done(ledger: SqlLedger, files: LocalFiles, store_io: bool = True) -> tuple[str, Sequence[str]]:
    """A finished request, and the keys of its input and output files."""
    name = str(uuid4())
    keys = [f"inputs/{name}/0.png", f"outputs/{name}/0.png"]
    for key in keys:
        await files.put(key, b"x", "image/png")
    await ledger.submit(work(name), APP, Terms(media=keys[:1], store_io=store_io))
    (claim,) = await ledger.claim("one", 1, 60)
    assert await ledger.finish(claim, Outcome.OK, OK, keys[1:])
    return name, keys


async def there(files: LocalFiles, keys: Sequence[str]) -> list[bool]:
    return [await files.get(key) is not None for key in keys]


def sweeper(ledger: SqlLedger, files: LocalFiles, settings: GatewaySettings, after_s: float) -> Retention:
    return Retention(ledger.history, files, settings, lambda: utc_now() + timedelta(seconds=after_s))


async def test_what_is_old_goes_with_its_files_and_not_before(
    ledger: SqlLedger, files: LocalFiles, settings: GatewaySettings
) -> None:
    name, keys = await done(ledger, files)
    await ledger.submit(work("waiting"), APP)
    assert settings.keep_requests_s == 30 * DAY_S
    assert await sweeper(ledger, files, settings, 30 * DAY_S - 60).sweep() == 0
    assert await there(files, keys) == [True, True]
    assert await sweeper(ledger, files, settings, 30 * DAY_S + 60).sweep() == 1
    assert await there(files, keys) == [False, False]
    assert await ledger.status(name, APP) is None
    assert await ledger.status("waiting", APP) is not None


async def test_nothing_goes_while_its_files_cannot(
    ledger: SqlLedger, files: LocalFiles, settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the row would go the only word of its files."""
    name, keys = await done(ledger, files)

    async def away(self: FileStore) -> None:
        raise StoreUnavailable("files")

    with monkeypatch.context() as patched:
        patched.setattr(FileStore, "check", away)
        with pytest.raises(StoreUnavailable):
            await sweeper(ledger, files, settings, 31 * DAY_S).sweep()
    assert await ledger.status(name, APP) is not None
    assert await sweeper(ledger, files, settings, 31 * DAY_S).sweep() == 1
    assert await there(files, keys) == [False, False]


async def test_more_than_a_batch_goes_in_one_sweep(
    ledger: SqlLedger, files: LocalFiles, settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    for _ in range(5):
        await done(ledger, files)
    assert await sweeper(ledger, files, settings, 31 * DAY_S).sweep() == 5


async def test_what_may_not_be_stored_can_be_fetched_for_an_hour_and_is_then_cleared(
    ledger: SqlLedger, files: LocalFiles, settings: GatewaySettings
) -> None:
    name, keys = await done(ledger, files, store_io=False)
    kept, kept_keys = await done(ledger, files)
    assert await sweeper(ledger, files, settings, 3540).sweep() == 0
    assert await ledger.answer(name, APP) == OK
    assert await sweeper(ledger, files, settings, 3660).sweep() == 1
    answer = await ledger.answer(name, APP)
    assert answer is not None
    assert answer.status == 404
    assert await there(files, keys) == [False, True]
    record = await ledger.history.show(name)
    assert record is not None
    assert (record.work, record.input, record.entry.outcome) == (None, None, Outcome.OK)
    assert await sweeper(ledger, files, settings, 3660).sweep() == 0
    assert await ledger.answer(kept, APP) == OK
    assert await there(files, kept_keys) == [True, True]


async def test_a_file_that_stays_does_not_stop_the_others(
    ledger: SqlLedger, files: LocalFiles, settings: GatewaySettings, caplog: pytest.LogCaptureFixture
) -> None:
    (_, first), (_, second) = await done(ledger, files), await done(ledger, files)

    class Stubborn(LocalFiles):
        async def delete(self, key: str) -> None:
            if key == first[0]:
                raise OSError("read-only")
            await super().delete(key)

    stubborn = Stubborn(settings.data_dir)
    assert await sweeper(ledger, stubborn, settings, 31 * DAY_S).sweep() == 2
    assert await there(files, [*first, *second]) == [True, False, False, False]
    assert first[0] in caplog.text
