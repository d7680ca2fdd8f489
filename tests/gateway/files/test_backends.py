"""The files store in a folder: whole files only, no empty folders, files of before there were notes."""

from pathlib import Path

import pytest

from gateway.errors import StoreUnavailable
from gateway.files.backends import LocalFiles
from gateway.files.base import FileTerms, Stored

ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
KEY = f"outputs/{ID}/0.png"


@pytest.fixture
def local(tmp_path: Path) -> LocalFiles:
    return LocalFiles(tmp_path / "files")


async def test_a_write_that_fails_leaves_nothing(
    local: LocalFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError("no space")

    monkeypatch.setattr("gateway.files.backends.os.fsync", full)
    with pytest.raises(StoreUnavailable):
        await local.put(KEY, b"x", "image/png")
    assert _files(tmp_path) == []


async def test_a_deleted_file_leaves_no_empty_folders(local: LocalFiles, tmp_path: Path) -> None:
    await local.put(KEY, b"x", "image/png")
    await local.delete(KEY)
    assert _entries(tmp_path / "files") == []


async def test_a_file_without_notes_is_served_by_its_suffix(local: LocalFiles, tmp_path: Path) -> None:
    path = tmp_path / "files" / KEY
    path.parent.mkdir(parents=True)
    path.write_bytes(b"old")
    info = await local.stat(KEY)
    assert info is not None
    assert (info.content_type, info.terms) == ("image/png", FileTerms())
    assert await local.get(KEY) == Stored(KEY, b"old", "image/png")


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _entries(folder: Path) -> list[Path]:
    return [*folder.iterdir()]
