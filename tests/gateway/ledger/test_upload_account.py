"""The account of uploads on each kind of database: limits hold over processes, and no place is lost for ever."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import pytest

from gateway.errors import PlatformError, StoreUnavailable
from gateway.files.base import FileInfo, FileTerms
from gateway.files.store import UNFINISHED_S, FileStore
from gateway.files.upload_quota import BATCH, CHECK_S, QuotaReconciler, UploadAccount
from gateway.ledger.database import Database
from gateway.ledger.models import TooMany
from gateway.settings import GatewaySettings
from tests.gateway.files.away import AwayBlobs
from tests.gateway.ledger.works import Clock

Opened = Callable[..., Awaitable[UploadAccount]]
LIMITS = {"uploads_of_key": 3, "unfinished_uploads_of_key": 2, "upload_parts_of_key": 5, "max_upload_bytes": 100}


@pytest.fixture
async def open_account(url: str, clock: Clock, tmp_path: Path) -> AsyncIterator[Opened]:
    """An account on connections of its own, under `LIMITS` or others."""
    opened: list[Database] = []

    async def opening(**limits: int) -> UploadAccount:
        opened.append(await Database.open(url))
        settings = GatewaySettings(data_dir=tmp_path, **{**LIMITS, **limits})  # type: ignore[arg-type]
        return UploadAccount(opened[-1], settings, clock)

    yield opening
    for database in opened:
        await database.close()


@pytest.fixture
async def account(open_account: Opened) -> UploadAccount:
    return await open_account()


@pytest.fixture
def blobs(tmp_path: Path) -> AwayBlobs:
    return AwayBlobs(tmp_path)


@pytest.fixture
def files(blobs: AwayBlobs, clock: Clock) -> FileStore:
    return FileStore(blobs, lambda: clock().timestamp())


def new() -> str:
    return f"uploads/{uuid4()}/file.bin"


async def stored(files: FileStore, file: str, owner: str = "a", expires_at: float | None = None) -> FileInfo:
    await files.save(file, BytesIO(b"x" * 10), "application/octet-stream", "etag", FileTerms(owner, None, expires_at))
    info = await files.stat(file)
    assert info is not None
    return info


async def room(account: UploadAccount, owner: str = "a") -> int:
    """How many files more the owner may have; they are given back."""
    taken: list[str] = []
    while True:
        try:
            await account.take_file(new_one := new(), owner, 1, None)
        except PlatformError:
            break
        taken.append(new_one)
    for file in taken:
        await account.remove(file)
    return len(taken)


async def test_a_key_has_so_many_places_and_another_key_its_own(account: UploadAccount) -> None:
    for _ in range(3):
        assert await account.take_file(new(), "a", 1, None)
    with pytest.raises(PlatformError, match="3 uploaded files") as raised:
        await account.take_file(new(), "a", 1, None)
    assert (raised.value.status, raised.value.error_type) == (403, "budget_exhausted")
    with pytest.raises(PlatformError, match="3 uploaded files"):
        await account.take_part(new(), "a", 1, 1, 0)
    assert await room(account, "b") == 3
    assert await room(account, "") == 3


async def test_a_file_takes_one_place_however_often_it_is_sent(account: UploadAccount) -> None:
    file = new()
    assert [await account.take_file(file, "a", 1, None) for _ in range(3)] == [True, False, False]
    assert await room(account) == 2


async def test_calls_at_once_do_not_pass_a_limit_together(open_account: Opened) -> None:
    accounts = [await open_account() for _ in range(3)]
    files = [each.take_file(new(), "a", 1, None) for each in accounts * 4]
    parts = [each.take_part(new(), "b", 1, 1, 0) for each in accounts * 4]
    done = await asyncio.gather(*files, *parts, return_exceptions=True)
    assert [answer for answer in done[:12] if not isinstance(answer, PlatformError)] == [True] * 3
    assert [answer for answer in done[12:] if not isinstance(answer, TooMany)] == [None] * 2


async def test_unfinished_uploads_are_few_until_some_are_completed(account: UploadAccount, clock: Clock) -> None:
    begun = int(clock().timestamp())
    one, two, three = new(), new(), new()
    for file in (one, two):
        assert await account.take_part(file, "a", 1, 1, begun) is None
    with pytest.raises(TooMany) as raised:
        await account.take_part(three, "a", 1, 1, begun)
    assert raised.value.status == 429
    assert await account.take_part(two, "a", 2, 1, begun) is None
    assert await account.take_part(three, "b", 1, 1, begun) is None
    await account.settle(FileInfo(one, 1, "", "", FileTerms("a")))
    assert await account.take_part(three + "x", "a", 1, 1, begun) is None


async def test_parts_are_so_many_together_and_free_when_sent_again(account: UploadAccount) -> None:
    one, two = new(), new()
    for number in (1, 2, 3):
        assert await account.take_part(one, "a", number, 10, 0) is None
    for number in (1, 2):
        assert await account.take_part(two, "a", number, 10, 0) is None
    with pytest.raises(TooMany, match="5 parts"):
        await account.take_part(two, "a", 3, 10, 0)
    assert await account.take_part(two, "a", 2, 10, 0) == 10
    await account.give_back_part(one, 3, None)
    assert await account.take_part(two, "a", 3, 10, 0) is None


async def test_the_parts_of_a_file_are_not_larger_than_a_file(account: UploadAccount) -> None:
    file = new()
    for _ in range(3):
        await account.take_part(file, "a", 1, 60, 0)
    with pytest.raises(PlatformError) as raised:
        await account.take_part(file, "a", 2, 41, 0)
    assert raised.value.status == 413
    assert await account.take_part(file, "a", 2, 40, 0) is None
    await account.give_back_part(file, 2, None)
    assert await account.take_part(file, "a", 3, 40, 0) is None


async def test_bytes_of_a_key_are_bounded_where_that_is_set(open_account: Opened) -> None:
    account = await open_account(upload_bytes_of_key=100)
    file, parted = new(), new()
    await account.take_file(file, "a", 60, None)
    assert await account.take_part(parted, "a", 1, 30, 0) is None
    for _ in range(2):
        with pytest.raises(PlatformError, match="100 bytes") as raised:
            await account.take_part(parted, "a", 2, 11, 0)
        assert raised.value.status == 403
    with pytest.raises(PlatformError, match="100 bytes"):
        await account.take_file(new(), "a", 11, None)
    assert await account.take_part(parted, "a", 1, 40, 0) == 30
    assert await account.take_part(parted, "a", 1, 40, 0) == 40
    assert not await account.take_file(file, "a", 60, None)
    await account.give_back_part(parted, 1, 30)
    assert await account.take_file(new(), "a", 10, None)
    assert await account.take_file(new(), "b", 100, None)


async def test_what_was_given_back_whole_leaves_nothing(account: UploadAccount) -> None:
    file = new()
    await account.take_part(file, "a", 1, 1, 0)
    await account.give_back_part(file, 1, None)
    await account.give_back_part(file, 1, None)
    assert not await account.counts(file)
    assert await room(account) == 3


async def test_a_file_that_expires_gives_its_place_back(account: UploadAccount, files: FileStore, clock: Clock) -> None:
    file, end = new(), clock().timestamp() + 60
    await account.take_file(file, "a", 10, end)
    await stored(files, file, expires_at=end)
    sweep = QuotaReconciler(account, files).sweep
    clock.turn(59)
    assert (await sweep(), await room(account)) == (0, 2)
    clock.turn(2)
    assert (await sweep(), await room(account)) == (1, 3)


async def test_a_place_whose_file_never_came_ends_in_a_day(
    account: UploadAccount, files: FileStore, clock: Clock
) -> None:
    """As after a kill between the place and the file, or an upload in parts that nobody completes."""
    whole, parted, kept = new(), new(), new()
    begun = int(clock().timestamp())
    await account.take_file(whole, "a", 10, None)
    await account.take_part(parted, "a", 1, 10, begun)
    await account.take_file(kept, "a", 10, None)
    await stored(files, kept)
    sweep = QuotaReconciler(account, files).sweep
    clock.turn(UNFINISHED_S - 60)
    assert (await sweep(), await room(account)) == (0, 0)
    clock.turn(120)
    assert (await sweep(), await room(account)) == (2, 2)
    clock.turn(CHECK_S - 60)
    assert (await sweep(), await room(account)) == (0, 2)


async def test_a_file_that_went_in_another_way_is_noticed(
    account: UploadAccount, files: FileStore, clock: Clock
) -> None:
    file = new()
    await account.settle(await stored(files, file))
    await files.delete(file)
    clock.turn(CHECK_S + 1)
    assert (await QuotaReconciler(account, files).sweep(), await room(account)) == (1, 3)


async def test_a_file_whose_parts_were_not_settled_keeps_one_place(
    account: UploadAccount, files: FileStore, clock: Clock
) -> None:
    """As after a kill between the joined file and its row."""
    file, begun = new(), int(clock().timestamp())
    for number in range(1, 6):
        await account.take_part(file, "a", number, 10, begun)
    await stored(files, file)
    clock.turn(UNFINISHED_S + 1)
    assert await QuotaReconciler(account, files).sweep() == 0
    assert await room(account) == 2
    for number in range(1, 6):
        assert await account.take_part(f"{file}x", "a", number, 10, begun) is None


async def test_a_file_that_had_no_place_gets_one_when_it_is_there(account: UploadAccount, files: FileStore) -> None:
    await account.settle(await stored(files, new()))
    assert await room(account) == 2


async def test_nothing_is_taken_for_gone_while_the_store_is_away(
    account: UploadAccount, files: FileStore, blobs: AwayBlobs, clock: Clock
) -> None:
    file = new()
    await account.take_file(file, "a", 10, None)
    clock.turn(UNFINISHED_S + 1)
    blobs.take_away()
    with pytest.raises(StoreUnavailable):
        await QuotaReconciler(account, files).sweep()
    assert await account.counts(file)


async def test_one_sweep_takes_more_than_a_batch(open_account: Opened, files: FileStore, clock: Clock) -> None:
    account = await open_account(uploads_of_key=BATCH + 5)
    await asyncio.gather(*(account.take_file(new(), "a", 1, None) for _ in range(BATCH + 5)))
    clock.turn(UNFINISHED_S + 1)
    assert await QuotaReconciler(account, files).sweep() == BATCH + 5


async def test_a_place_that_was_taken_again_meanwhile_stays(
    account: UploadAccount, files: FileStore, clock: Clock
) -> None:
    file = new()
    await account.take_file(file, "a", 10, None)
    clock.turn(UNFINISHED_S + 1)
    await account.settle(await stored(files, file))
    await account.agree({file: None})
    assert await account.counts(file)
