"""Limits on uploads over the wire: what is beyond is refused, another key is not affected, and room can be made."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.app import Parts, create_app
from gateway.errors import StoreUnavailable
from gateway.files.store import FileStore
from gateway.files.upload_quota import QuotaReconciler, UploadAccount
from gateway.keys.base import KeyLimits, Scope
from gateway.keys.sql import SqlKeys
from gateway.ledger.store import SqlLedger
from tests.gateway.fakes import until
from tests.gateway.files.away import AwayBlobs
from tests.gateway.http.storing import PNG, Uploader, beside, in_fals_shape

FILES, UNFINISHED, PARTS = 3, 2, 4
SECOND = {"x-fal-object-lifecycle": '{"expiration_duration_seconds": 1}'}

NewCaller = Callable[..., Awaitable[Uploader]]


@pytest.fixture
def blobs(tmp_path: Path) -> AwayBlobs:
    return AwayBlobs(tmp_path)


@pytest.fixture
def parts(parts: Parts, ledger: SqlLedger, blobs: AwayBlobs) -> Parts:
    limits: dict[str, Any] = {
        "uploads_of_key": FILES,
        "unfinished_uploads_of_key": UNFINISHED,
        "upload_parts_of_key": PARTS,
        "keys": "required",
        "allowed_hosts": (),
    }
    settings = parts.settings.model_copy(update=limits)
    account = UploadAccount(ledger.database, settings)
    keys = SqlKeys(ledger.database)
    return replace(parts, settings=settings, files=FileStore(blobs), uploads=account, keys=keys)


@pytest.fixture
async def new_caller(parts: Parts, ledger: SqlLedger) -> AsyncIterator[NewCaller]:
    """Callers with a key of their own each."""
    keys = SqlKeys(ledger.database)
    transport = httpx2.ASGITransport(app=create_app(parts))
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:

        async def new_caller(*scopes: Scope) -> Uploader:
            issued = await keys.create("app", scopes or (Scope.STORAGE,), KeyLimits())
            return Uploader(client, {"authorization": f"Key {issued.credentials}"})

        yield new_caller


@pytest.fixture
async def up(new_caller: NewCaller) -> Uploader:
    return await new_caller()


async def put(up: Uploader, url: str) -> httpx2.Response:
    return await up.client.put(url, content=PNG)


async def one_more(up: Uploader) -> httpx2.Response:
    return await put(up, (await up.begun())["upload_url"])


async def delete(up: Uploader, url: str) -> int:
    return (await up.client.delete(url, headers=up.headers)).status_code


def not_to_send_again(answer: httpx2.Response) -> bool:
    """fal's clients try a 429 again, and again; not a 403."""
    return in_fals_shape(answer, 403) and answer.json()["error_type"] == "budget_exhausted"


def to_send_again(answer: httpx2.Response) -> bool:
    return in_fals_shape(answer, 429) and answer.headers["x-fal-needs-retry"] == "1"


async def test_a_file_beyond_the_limit_is_refused_and_another_keys_is_not(up: Uploader, new_caller: NewCaller) -> None:
    for _ in range(FILES):
        await up.whole(PNG)
    assert not_to_send_again(await one_more(up))
    token = {**await up.token(), "x-fal-file-name": "a.png"}
    assert not_to_send_again(await up.client.post("/cdn/files/upload", content=PNG, headers=token))
    begun = await up.begun("initiate-multipart")
    assert not_to_send_again(await put(up, beside(begun["upload_url"], "1")))
    assert (await one_more(await new_caller())).is_success


async def test_a_file_that_was_refused_is_not_there(up: Uploader, parts: Parts) -> None:
    for _ in range(FILES):
        await up.whole(PNG)
    begun = await up.begun()
    assert not_to_send_again(await put(up, begun["upload_url"]))
    assert (await up.client.get(begun["file_url"])).status_code == 404
    stored = await asyncio.to_thread(lambda: [*(parts.settings.data_dir / "files").rglob("file.*")])
    assert len(stored) == FILES


async def test_sending_a_file_again_costs_nothing(up: Uploader) -> None:
    begun = await up.begun()
    for _ in range(FILES + 1):
        assert (await put(up, begun["upload_url"])).is_success
    for _ in range(FILES - 1):
        await up.whole(PNG)
    assert (await put(up, begun["upload_url"])).is_success
    assert not_to_send_again(await one_more(up))


async def test_files_that_come_at_once_do_not_pass_the_limit_together(up: Uploader) -> None:
    begun = [await up.begun() for _ in range(3 * FILES)]
    answers = await asyncio.gather(*(put(up, each["upload_url"]) for each in begun))
    assert sorted(answer.status_code for answer in answers) == [200] * FILES + [403] * 2 * FILES


async def test_a_deleted_file_makes_room(up: Uploader) -> None:
    urls = [await up.whole(PNG) for _ in range(FILES)]
    assert await delete(up, urls[0]) == 200
    assert (await up.client.get(urls[0])).status_code == 404
    assert await delete(up, urls[0]) == 404
    assert (await one_more(up)).is_success
    assert not_to_send_again(await one_more(up))


async def test_only_the_owner_and_administrators_delete_a_file(up: Uploader, new_caller: NewCaller) -> None:
    one, two = await up.whole(PNG), await up.whole(PNG)
    assert await delete(await new_caller(), one) == 404
    assert await delete(await new_caller(Scope.RUN), one) == 403
    assert await delete(Uploader(up.client), one) == 401
    assert (await up.client.get(one)).status_code == 200
    assert await delete(up, one) == 200
    assert await delete(await new_caller(Scope.ADMIN), two) == 200


@pytest.mark.parametrize("key", ["uploads/x.png", "uploads/../x", "inputs/0f8fad5b-d9cb-469f-a165-70867728950e/0.png"])
async def test_nothing_but_an_upload_is_deleted(up: Uploader, parts: Parts, key: str) -> None:
    kept = "inputs/0f8fad5b-d9cb-469f-a165-70867728950e/0.png"
    await parts.files.put(kept, PNG, "image/png")
    assert await delete(up, f"/cdn/files/{key}") == 404
    assert await parts.files.stat(kept) is not None


async def test_a_file_that_is_sent_again_while_it_is_deleted_has_its_place(
    up: Uploader, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a file would be there that nothing counts."""
    begun = await up.begun()
    await put(up, begun["upload_url"])
    remove = FileStore.delete

    async def removed(self: FileStore, key: str) -> None:
        await remove(self, key)
        monkeypatch.undo()
        assert (await put(up, begun["upload_url"])).is_success

    monkeypatch.setattr(FileStore, "delete", removed)
    assert await delete(up, begun["file_url"]) == 200
    assert (await up.client.get(begun["file_url"])).status_code == 200
    for _ in range(FILES - 1):
        await up.whole(PNG)
    assert not_to_send_again(await one_more(up))


async def test_an_expired_file_makes_room_once_it_is_cleared_up(up: Uploader, parts: Parts) -> None:
    await up.whole(PNG)
    await up.whole(PNG)
    ends = await up.whole(PNG, more=SECOND)
    assert not_to_send_again(await one_more(up))
    assert parts.uploads is not None
    sweep = QuotaReconciler(parts.uploads, parts.files).sweep

    async def expired() -> bool:
        return (await up.client.get(ends)).status_code == 404

    await until(expired)
    await parts.files.sweep()
    assert await sweep() == 1
    assert (await one_more(up)).is_success
    assert not_to_send_again(await one_more(up))


async def test_uploads_beyond_the_unfinished_ones_wait_until_one_is_completed(
    up: Uploader, new_caller: NewCaller
) -> None:
    one, two, three = [(await up.begun("initiate-multipart"))["upload_url"] for _ in range(3)]
    listed = [(await put(up, beside(one, "1"))).json()]
    assert (await put(up, beside(two, "1"))).is_success
    assert to_send_again(await put(up, beside(three, "1")))
    assert (await put(up, beside(two, "2"))).is_success
    other = await new_caller()
    assert (await put(other, beside((await other.begun("initiate-multipart"))["upload_url"], "1"))).is_success
    assert (await up.client.post(beside(one, "complete"), json={"parts": listed})).is_success
    assert (await put(up, beside(three, "1"))).is_success


async def test_parts_beyond_the_limit_wait_and_sent_again_cost_nothing(up: Uploader) -> None:
    one, two = [(await up.begun("initiate-multipart"))["upload_url"] for _ in range(2)]
    listed = [(await put(up, beside(one, str(number)))).json() for number in (1, 2, 1, 2, 3)][2:]
    assert (await put(up, beside(two, "1"))).is_success
    assert to_send_again(await put(up, beside(two, "2")))
    assert (await put(up, beside(two, "1"))).is_success
    assert (await up.client.post(beside(one, "complete"), json={"parts": listed})).is_success
    assert (await put(up, beside(two, "2"))).is_success


async def test_parts_that_come_at_once_do_not_pass_the_limit_together(up: Uploader) -> None:
    url = (await up.begun("initiate-multipart"))["upload_url"]
    other = (await up.begun("initiate-multipart"))["upload_url"]
    answers = await asyncio.gather(*(put(up, beside(each, str(n))) for each in (url, other) for n in range(1, 5)))
    assert sorted(answer.status_code for answer in answers) == [200] * PARTS + [429] * PARTS


async def test_an_upload_of_more_parts_than_a_key_may_stage_is_told_so_at_once(up: Uploader) -> None:
    url = (await up.begun("initiate-multipart"))["upload_url"]
    assert in_fals_shape(await put(up, beside(url, str(PARTS + 1))), 400)


async def test_what_could_not_be_stored_gives_its_place_back(up: Uploader, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> None:
        raise StoreUnavailable("files")

    several, another = [(await up.begun("initiate-multipart"))["upload_url"] for _ in range(2)]
    with monkeypatch.context() as patch:
        patch.setattr(FileStore, "save", away)
        patch.setattr(FileStore, "stage", away)
        for _ in range(FILES + 1):
            assert in_fals_shape(await one_more(up), 503)
        for number in range(1, PARTS + 1):
            assert in_fals_shape(await put(up, beside(several, str(number))), 503)
    for number in range(1, PARTS + 1):
        assert (await put(up, beside(another, str(number)))).is_success
    for _ in range(FILES - 1):
        await up.whole(PNG)
    assert not_to_send_again(await one_more(up))


async def test_the_size_of_all_files_of_a_key_is_bounded_where_that_is_set(parts: Parts, ledger: SqlLedger) -> None:
    settings = parts.settings.model_copy(update={"upload_bytes_of_key": 2 * len(PNG), "keys": "off"})
    bounded = replace(parts, settings=settings, keys=None, uploads=UploadAccount(ledger.database, settings))
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=create_app(bounded)), base_url="http://localhost"
    ) as client:
        up = Uploader(client)
        begun = await up.begun()
        for _ in range(3):
            assert (await put(up, begun["upload_url"])).is_success
        url = await up.whole(PNG)
        assert not_to_send_again(await one_more(up))
        assert await delete(up, url) == 200
        assert (await one_more(up)).is_success


async def test_without_an_account_nothing_can_be_uploaded(parts: Parts) -> None:
    open_parts = replace(parts, uploads=None, keys=None, settings=parts.settings.model_copy(update={"keys": "off"}))
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=create_app(open_parts)), base_url="http://localhost"
    ) as client:
        assert (await Uploader(client).initiate()).status_code == 404
