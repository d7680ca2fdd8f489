"""Files that nothing names any more: one that cannot be deleted keeps no other, and none is left without a word."""

from pathlib import Path

import pytest

from gateway.files.backends import LocalFiles
from gateway.files.store import FileStore
from gateway.worker.reaper import delete_files
from tests.gateway.files.away import AwayBlobs

ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
KEYS = [f"inputs/{ID}/{number}.png" for number in range(3)]


async def test_one_that_cannot_be_deleted_keeps_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = LocalFiles(tmp_path)
    await files.put(KEYS[1], b"x", "image/png")
    await delete_files([KEYS[0], "no key", KEYS[1]], files)
    assert await files.get(KEYS[1]) is None
    assert "no key" in caplog.text


async def test_a_store_that_is_away_is_one_line_that_names_them_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blobs = AwayBlobs(tmp_path)
    blobs.take_away()
    await delete_files(KEYS, FileStore(blobs))
    (said,) = caplog.records
    assert all(key in said.getMessage() for key in KEYS)
    assert said.exc_info is None
    assert blobs.refusals == 1
