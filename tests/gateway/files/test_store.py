"""The files store's promises, kept on a folder and on a bucket alike."""

import pickle
from io import BytesIO

import pytest

from gateway.files.base import FileInfo, FileTerms, Part, Stored
from gateway.files.blobs import Blobs
from gateway.files.store import UNFINISHED_S, FileStore, moment
from gateway.policy import Acl, AclRule
from tests.gateway.fakes import Clock

ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
OTHER = "1f8fad5b-d9cb-469f-a165-70867728950e"
KEY = f"outputs/{ID}/0.png"
UPLOAD = f"uploads/{ID}/file.bin"
ETAG = "e" * 64


async def test_what_is_put_is_got_until_it_is_deleted(files: FileStore) -> None:
    assert await files.get(KEY) is None
    await files.put(KEY, b"picture", "image/png")
    assert await files.get(KEY) == Stored(KEY, b"picture", "image/png")
    await files.delete(KEY)
    await files.delete(KEY)
    assert await files.get(KEY) is None
    assert await files.stat(KEY) is None


async def test_its_terms_stay_with_a_file(files: FileStore, clock: Clock) -> None:
    acl = Acl(default="forbid", rules=(AclRule(user="one", decision="allow"),))
    terms = FileTerms("owner", acl, clock.now + 10.5, 'Größe 100% "b".png')
    await files.save(UPLOAD, BytesIO(b"content"), "image/png", ETAG, terms)
    assert await files.stat(UPLOAD) == FileInfo(UPLOAD, 7, "image/png", ETAG, terms)


async def test_a_second_attempt_replaces_the_whole_file(files: FileStore) -> None:
    await files.put(KEY, b"the first and longer one", "image/png", FileTerms("owner"))
    await files.put(KEY, b"the second", "image/png")
    stored, info = await files.get(KEY), await files.stat(KEY)
    assert stored is not None
    assert info is not None
    assert (stored.content, info.size, info.terms) == (b"the second", 10, FileTerms())


@pytest.mark.parametrize(("start", "size"), [(0, 10), (3, 4), (9, 1), (5, 100), (10, 5), (0, 0)])
async def test_a_part_of_a_file_is_read(files: FileStore, start: int, size: int) -> None:
    await files.put(KEY, b"0123456789", "image/png")
    pieces = [piece async for piece in files.open(KEY, start, size)]
    assert b"".join(pieces) == b"0123456789"[start : start + size]


async def test_a_large_file_goes_in_and_comes_out_piece_by_piece(files: FileStore) -> None:
    content = bytes(range(256)) * 40_000  # more than a bucket takes at once, and more than is read at once
    await files.save(UPLOAD, BytesIO(content), "application/octet-stream", ETAG, FileTerms("owner"))
    pieces = [piece async for piece in files.open(UPLOAD, 1, len(content))]
    assert len(pieces) > 1
    assert b"".join(pieces) == content[1:]
    info = await files.stat(UPLOAD)
    assert info is not None
    assert (info.size, info.terms.owner) == (len(content), "owner")


async def test_a_file_ends_when_it_expires_and_the_sweep_removes_it(
    files: FileStore, blobs: Blobs, clock: Clock
) -> None:
    await files.put(KEY, b"picture", "image/png", FileTerms(expires_at=clock.now + 60))
    clock.now += 59
    assert await files.sweep() == 0
    assert await files.get(KEY) is not None
    clock.now += 1.5
    assert await files.get(KEY) is None
    assert await files.stat(KEY) is None
    assert blobs.stat(KEY) is not None
    assert await files.sweep() == 1
    assert blobs.stat(KEY) is None
    assert [*blobs.list("expiring/")] == []


async def test_the_sweep_leaves_what_was_written_again_with_a_later_end(files: FileStore, clock: Clock) -> None:
    await files.put(KEY, b"first", "image/png", FileTerms(expires_at=clock.now + 10))
    await files.put(KEY, b"second", "image/png", FileTerms(expires_at=clock.now + 100))
    clock.now += 50
    assert await files.sweep() == 1
    assert await files.get(KEY) == Stored(KEY, b"second", "image/png")
    clock.now += 100
    assert await files.sweep() == 1
    assert await files.get(KEY) is None


async def test_the_sweep_stops_at_its_limit(files: FileStore, clock: Clock) -> None:
    for number in range(5):
        terms = FileTerms(expires_at=clock.now + number)
        await files.put(f"outputs/{ID}/{number}.png", b"x", "image/png", terms)
    clock.now += 10
    assert [await files.sweep(limit=2) for _ in range(4)] == [2, 2, 1, 0]


async def test_parts_are_joined_in_their_order(files: FileStore, clock: Clock) -> None:
    upload = f"{moment(clock.now)}/{ID}"
    for number, content in ((2, b"two"), (10, b"ten"), (1, b"one")):
        await files.stage(upload, number, BytesIO(content), f"etag-{number}")
    await files.stage(upload, 2, BytesIO(b"TWO!"), "etag-again")
    await files.stage(f"{moment(clock.now)}/{OTHER}", 1, BytesIO(b"other"), "etag-other")
    parts = await files.staged(upload)
    assert parts == [Part(1, 3, "etag-1"), Part(2, 4, "etag-again"), Part(10, 3, "etag-10")]
    joined = BytesIO()
    assert await files.join(upload, parts, joined)
    assert joined.getvalue() == b"oneTWO!ten"
    await files.unstage(upload)
    assert await files.staged(upload) == []
    assert not await files.join(upload, parts, BytesIO())


async def test_unfinished_uploads_go_after_a_day(files: FileStore, clock: Clock) -> None:
    old, new = f"{moment(clock.now)}/{ID}", f"{moment(clock.now + UNFINISHED_S)}/{OTHER}"
    for upload in (old, new):
        await files.stage(upload, 1, BytesIO(b"part"), ETAG)
    clock.now += UNFINISHED_S + 1
    assert await files.sweep() == 1
    assert (await files.staged(old), len(await files.staged(new))) == ([], 1)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "outputs",
        f"other/{ID}/0.png",
        f"staging/{ID}/0.png",
        f"expiring/{ID}/0.png",
        f"outputs/{ID}/../0.png",
        f"outputs/{ID}/..png",
        f"outputs/{ID}/.png",
        f"outputs/{ID}/a/0.png",
        f"outputs/{ID}/0.png/",
        f"outputs/{ID}/0.png\n",
        f"outputs/{ID}/0.tar.gz",
        f"outputs/{ID}/0.exe",
        f"uploads/{ID}/file.exe",
        f"uploads/{ID}/file.html",
        f"outputs/{ID}/0.bin",
        f"outputs/{ID}/0",
        f"outputs/{ID.upper()}/0.png",
        "outputs/../0.png",
        f"/outputs/{ID}/0.png",
        f"outputs/{ID}/0\0.png",
    ],
)
async def test_a_key_of_another_form_is_refused(files: FileStore, blobs: Blobs, key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        await files.put(key, b"x", "image/png")
    with pytest.raises(ValueError, match="key"):
        await files.get(key)
    with pytest.raises(ValueError, match="key"):
        await files.stat(key)
    with pytest.raises(ValueError, match="key"):
        await files.delete(key)
    assert [*blobs.list("")] == []


@pytest.mark.parametrize("upload", ["", ID, f"1/{ID}", f"{moment(1)}/..", f"{moment(1)}/{ID}/.."])
async def test_an_upload_of_another_form_is_refused(files: FileStore, upload: str) -> None:
    with pytest.raises(ValueError, match="upload"):
        await files.stage(upload, 1, BytesIO(b"x"), ETAG)
    with pytest.raises(ValueError, match="upload"):
        await files.staged(upload)


async def test_a_suffix_that_belies_the_type_is_refused(files: FileStore) -> None:
    with pytest.raises(ValueError, match="image/jpeg"):
        await files.put(KEY, b"x", "image/jpeg")


async def test_another_process_sees_the_same_files(files: FileStore, blobs: Blobs) -> None:
    await files.put(KEY, b"picture", "image/png")
    other: Blobs = pickle.loads(pickle.dumps(blobs))  # noqa: S301 (our own)
    assert await FileStore(other).get(KEY) == Stored(KEY, b"picture", "image/png")
