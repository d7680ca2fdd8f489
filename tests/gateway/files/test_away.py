"""A files store that is away says so, soon and in one way, and is as it was when it is back."""

import asyncio
import errno
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest

from gateway.errors import StoreUnavailable
from gateway.files.backends import FolderBlobs
from gateway.files.base import FileTerms, Stored
from gateway.files.s3 import Bucket, S3Blobs
from gateway.files.store import FileStore, is_key, moment
from tests.gateway.files.away import AwayBlobs
from tests.gateway.files.s3_server import BUCKET, S3Server, serving

ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
KEY, OTHER = f"outputs/{ID}/0.png", f"outputs/{ID}/1.png"
UPLOAD = f"{moment(1_800_000_000)}/{ID}"
SOON_S = 24.0  # within which a call to a store that hangs has ended, the wait for a thread included
ROOT = Path(__file__).parents[3]


async def opened(files: FileStore) -> list[bytes]:
    return [piece async for piece in files.open(KEY, 0, 10)]


CALLS: dict[str, Callable[[FileStore], Awaitable[object]]] = {
    "check": lambda files: files.check(),
    "put": lambda files: files.put(OTHER, b"other", "image/png"),
    "put what expires": lambda files: files.put(OTHER, b"other", "image/png", FileTerms(expires_at=2e9)),
    "save what is large": lambda files: files.save(
        f"uploads/{ID}/file.bin", BytesIO(bytes(9 * 2**20)), "application/octet-stream", "etag", FileTerms()
    ),
    "get": lambda files: files.get(KEY),
    "get what is missing": lambda files: files.get(OTHER),
    "stat": lambda files: files.stat(KEY),
    "open": opened,
    "delete": lambda files: files.delete(KEY),
    "stage": lambda files: files.stage(UPLOAD, 1, BytesIO(b"part"), "etag"),
    "staged": lambda files: files.staged(UPLOAD),
    "unstage": lambda files: files.unstage(UPLOAD),
    "sweep": lambda files: files.sweep(),
}


async def refused(files: FileStore, call: Callable[[FileStore], Awaitable[object]]) -> BaseException:
    """The error that stood behind the store's own."""
    with pytest.raises(StoreUnavailable) as caught:
        async with asyncio.timeout(SOON_S):
            await call(files)
    assert (caught.value.store, caught.value.status) == ("files", 503)
    assert caught.value.headers()["x-fal-retryable"] == "true"
    assert isinstance(caught.value.__cause__, OSError)
    return caught.value.__cause__


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES, errno.EDQUOT])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_a_folder_that_cannot_be_used_is_a_store_that_is_away(
    tmp_path: Path, code: int, call: Callable[[FileStore], Awaitable[object]]
) -> None:
    blobs = AwayBlobs(tmp_path, code)
    files = FileStore(blobs)
    await files.put(KEY, b"picture", "image/png")
    blobs.take_away()
    cause = await refused(files, call)
    assert isinstance(cause, OSError)
    assert cause.errno == code
    blobs.give_back()
    await files.check()
    assert await files.get(KEY) == Stored(KEY, b"picture", "image/png")
    assert await files.get(OTHER) is None


def test_a_full_disk_is_away_and_keeps_what_it_has(tmp_path: Path) -> None:
    """The largest file that a process may write stands for the disk's end."""
    program = f"""
import asyncio, pathlib, resource
from gateway.errors import StoreUnavailable
from gateway.files.backends import LocalFiles
async def fails(call):
    try:
        await call
    except StoreUnavailable:
        return True
async def main():
    files = LocalFiles(pathlib.Path({str(tmp_path)!r}))
    await files.put({KEY!r}, b"picture", "image/png")
    before = await files.stat({KEY!r})
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    assert await fails(files.put({OTHER!r}, bytes(1_000_000), "image/png"))
    assert await fails(files.put({KEY!r}, bytes(1_000_000), "image/png"))
    assert await fails(files.check())
    assert (await files.get({KEY!r})).content == b"picture"
    assert await files.stat({KEY!r}) == before
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await files.check()
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {"0.png", ".0.png.json"}


@pytest.fixture(scope="module")
def own_server() -> Iterator[S3Server]:
    """A server that these tests may kill."""
    with serving() as server:
        yield server


@pytest.fixture
def bucket(own_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> FileStore:
    for name, value in own_server.environment().items():
        monkeypatch.setenv(name, value)
    return FileStore(S3Blobs(Bucket.at(f"s3://{BUCKET}/away", own_server.endpoint_url)))


async def test_a_bucket_that_is_gone_is_away_until_it_is_back(own_server: S3Server, bucket: FileStore) -> None:
    await bucket.put(KEY, b"picture", "image/png")
    await asyncio.to_thread(own_server.kill)
    try:
        await asyncio.gather(*(refused(bucket, call) for call in CALLS.values()))
    finally:
        await asyncio.to_thread(own_server.start)
    await bucket.check()
    await bucket.put(OTHER, b"other", "image/png")
    assert await bucket.get(OTHER) == Stored(OTHER, b"other", "image/png")
    await bucket.delete(OTHER)
    assert await bucket.get(OTHER) is None


async def test_a_bucket_that_hangs_holds_up_nothing_else(own_server: S3Server, bucket: FileStore) -> None:
    """Neither decoding, which has threads of its own, nor those who ask it for more than it has threads."""
    await bucket.put(KEY, b"picture", "image/png")
    own_server.hang()
    try:
        asking = [asyncio.create_task(refused(bucket, call)) for call in [*CALLS.values(), *[CALLS["get"]] * 100]]
        decoded = 0
        while not any(call.done() for call in asking):  # the first ends after seconds
            await asyncio.to_thread(time.sleep, 0.05)
            decoded += 1
        await asyncio.gather(*asking)
    finally:
        own_server.resume()
    assert decoded > 3  # the first was submitted before the calls; had the next waited for one, there would be two
    await bucket.check()


async def test_a_bucket_that_lets_nobody_in_is_away(
    own_server: S3Server, bucket: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    stranger = FileStore(S3Blobs(Bucket.at(f"s3://{BUCKET}/away", own_server.endpoint_url)))
    for call in CALLS.values():
        await refused(stranger, call)


async def test_a_call_that_is_wrong_is_no_store_that_is_away(bucket: FileStore) -> None:
    with pytest.raises(Exception, match="ASCII") as caught:
        await bucket.put(KEY, b"x", "image/png", FileTerms(owner="größer"))
    assert not isinstance(caught.value, StoreUnavailable)


async def test_checking_leaves_nothing(bucket: FileStore, tmp_path: Path) -> None:
    folder = AwayBlobs(tmp_path)
    for files in (bucket, FileStore(folder)):
        await files.check()
        assert files._blobs.stat("outputs/probe") is None
    assert [*os.walk(tmp_path)] == [(str(tmp_path), ["files"], []), (str(tmp_path / "files"), [], [])]
    assert not is_key("outputs/probe")


async def test_outputs_that_alone_cannot_be_written_are_a_store_that_is_away(tmp_path: Path) -> None:
    (tmp_path / "outputs").touch()  # no folder can be there
    files = FileStore(FolderBlobs(tmp_path))
    await files.put(f"inputs/{ID}/0.png", b"picture", "image/png")
    await refused(files, CALLS["check"])
    (tmp_path / "outputs").unlink()
    await files.check()


async def test_outputs_that_are_a_mount_are_checked_and_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rmdir(path: Path) -> None:
        assert path == tmp_path / "outputs"
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(Path, "rmdir", rmdir)
    await FileStore(FolderBlobs(tmp_path)).check()
    assert [*os.walk(tmp_path)] == [(str(tmp_path), ["outputs"], []), (str(tmp_path / "outputs"), [], [])]
