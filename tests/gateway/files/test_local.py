"""The files store in a folder: keys of our form only, whole files only."""

from pathlib import Path

import pytest

from gateway.files.base import Stored
from gateway.files.local import LocalFiles

ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
KEY = f"outputs/{ID}/0.png"


@pytest.fixture
def files(tmp_path: Path) -> LocalFiles:
    return LocalFiles(tmp_path / "files")


async def test_what_is_put_is_got_until_it_is_deleted(files: LocalFiles) -> None:
    assert await files.get(KEY) is None
    await files.put(KEY, b"picture", "image/png")
    assert await files.get(KEY) == Stored(KEY, b"picture", "image/png")
    await files.delete(KEY)
    await files.delete(KEY)
    assert await files.get(KEY) is None


@pytest.mark.parametrize(
    "key",
    [
        "",
        "outputs",
        f"other/{ID}/0.png",
        f"outputs/{ID}/../0.png",
        f"outputs/{ID}/..png",
        f"outputs/{ID}/.png",
        f"outputs/{ID}/a/0.png",
        f"outputs/{ID}/0.png/",
        f"outputs/{ID}/0.png\n",
        f"outputs/{ID}/0.tar.gz",
        f"outputs/{ID}/0.exe",
        f"outputs/{ID}/0",
        f"outputs/{ID.upper()}/0.png",
        "outputs/../0.png",
        f"/outputs/{ID}/0.png",
        f"outputs/{ID}/0\0.png",
    ],
)
async def test_a_key_of_another_form_is_refused(files: LocalFiles, key: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="key"):
        await files.put(key, b"x", "image/png")
    with pytest.raises(ValueError, match="key"):
        await files.get(key)
    with pytest.raises(ValueError, match="key"):
        await files.delete(key)
    assert _files(tmp_path) == []


async def test_a_suffix_that_belies_the_type_is_refused(files: LocalFiles) -> None:
    with pytest.raises(ValueError, match="image/jpeg"):
        await files.put(KEY, b"x", "image/jpeg")


async def test_a_second_attempt_replaces_the_whole_file(files: LocalFiles) -> None:
    await files.put(KEY, b"the first and longer one", "image/png")
    await files.put(KEY, b"the second", "image/png")
    stored = await files.get(KEY)
    assert stored is not None
    assert stored.content == b"the second"


async def test_a_write_that_fails_leaves_nothing(
    files: LocalFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError("no space")

    monkeypatch.setattr("gateway.files.local.os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        await files.put(KEY, b"x", "image/png")
    assert _files(tmp_path) == []


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
