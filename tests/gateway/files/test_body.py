"""A body becomes a file that is hashed and told by content, or nothing; a full disk is the store's fault."""

import errno
import hashlib
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from gateway.errors import PlatformError, StoreUnavailable
from gateway.files.body import IN_MEMORY, received, spooled
from tests.gateway.http.storing import PNG


async def pieces(*contents: bytes) -> AsyncGenerator[bytes, None]:
    for content in contents:
        yield content


@pytest.mark.parametrize("more", [0, 3 * IN_MEMORY], ids=["in memory", "on disk"])
async def test_the_file_is_what_came(tmp_path: Path, more: int) -> None:
    content = PNG + bytes(more)
    async with received(pieces(content[:5], content[5:]), tmp_path / "new") as body:
        assert body.file.read() == content
        assert (body.size, body.content_type) == (len(content), "image/png")
        assert body.sha256 == hashlib.sha256(content).hexdigest()
    assert body.file.closed


async def test_a_full_disk_is_a_store_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)  # where a body goes that is not small
    async with received(pieces(PNG), tmp_path):
        pass
    with pytest.raises(StoreUnavailable) as raised:
        async with received(pieces(bytes(2 * IN_MEMORY)), tmp_path):
            pass
    assert (raised.value.status, raised.value.store) == (503, "files")


async def test_a_folder_that_cannot_be_made_is_one_too(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable):
        async with received(pieces(PNG), tmp_path / "file"):
            pass
    with pytest.raises(StoreUnavailable), spooled(tmp_path):
        raise OSError(errno.EIO, "Input/output error")


async def test_a_body_that_cannot_be_kept_is_left_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = False

    async def endless() -> AsyncGenerator[bytes, None]:
        nonlocal closed
        try:
            while True:
                yield bytes(IN_MEMORY)
        finally:
            closed = True

    def full(*args: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(StoreUnavailable):
        async with received(endless(), tmp_path):
            pass
    assert closed


async def test_what_breaks_off_keeps_its_fault(tmp_path: Path) -> None:
    async def broken() -> AsyncGenerator[bytes, None]:
        yield b"x"
        raise PlatformError("client_disconnected", "gone")

    with pytest.raises(PlatformError, match="gone"):
        async with received(broken(), tmp_path):
            pass
