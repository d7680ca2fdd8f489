"""While the files store is away: calls that need it are refused as ones to send again, quietly; others are answered."""

import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from gateway.app import Parts, create_app
from gateway.files import body
from gateway.files.availability import StoreWatch
from gateway.files.store import FileStore
from gateway.http.responses import REQUEST_ID
from gateway.ledger.models import State
from tests.gateway.fakes import FAST, INPUT, PIXEL
from tests.gateway.files.away import AwayBlobs
from tests.gateway.http.conftest import Dispatch, Reach
from tests.gateway.http.storing import PNG, Uploader

KEY = "outputs/0f8fad5b-d9cb-469f-a165-70867728950e/0.png"
IMAGE_TO_IMAGE = f"{FAST}/image-to-image"
WITH_PICTURE = {**INPUT, "image_url": PIXEL}


@pytest.fixture
def blobs(tmp_path: Path) -> AwayBlobs:
    return AwayBlobs(tmp_path)


@pytest.fixture
def parts(parts: Parts, blobs: AwayBlobs) -> Parts:
    files = FileStore(blobs)
    watches = (StoreWatch("files", files.check, every_s=0), StoreWatch("ledger", parts.ledger.depth, every_s=0))
    return replace(parts, files=files, watches=watches)


@pytest.fixture
async def client(parts: Parts) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=create_app(parts))
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver:8000") as client:
        yield client


def to_send_again(answer: httpx2.Response) -> bool:
    return (
        answer.status_code == 503
        and answer.json()["error_type"] == "runner_connection_error"
        and "files store" in answer.json()["detail"]
        and answer.headers["x-fal-retryable"] == "true"
        and bool(answer.headers["retry-after"])
        and bool(answer.headers[REQUEST_ID])
    )


async def test_readiness_names_the_store_and_the_service_lives(client: httpx2.AsyncClient, blobs: AwayBlobs) -> None:
    assert (await client.get("/ready")).status_code == 200
    blobs.take_away()
    assert to_send_again(await client.get("/ready"))
    assert (await client.get("/health")).status_code == 200
    blobs.give_back()
    assert (await client.get("/ready")).status_code == 200


async def test_calls_that_need_it_are_refused_with_a_line_for_all(
    client: httpx2.AsyncClient, parts: Parts, blobs: AwayBlobs, caplog: pytest.LogCaptureFixture
) -> None:
    await parts.files.put(KEY, b"picture", "image/png")
    uploader = Uploader(client)
    begun, several = await uploader.begun(), await uploader.begun("initiate-multipart")
    blobs.take_away()
    caplog.set_level(logging.INFO)
    for _ in range(10):
        assert to_send_again(await client.post(f"/queue/{IMAGE_TO_IMAGE}", json=WITH_PICTURE))
        assert to_send_again(await client.post(f"/run/{IMAGE_TO_IMAGE}", json=WITH_PICTURE))
        named = {**INPUT, "image_url": f"http://testserver:8000/files/{KEY}"}
        assert to_send_again(await client.post(f"/queue/{IMAGE_TO_IMAGE}", json=named))
        assert to_send_again(await client.get(f"/files/{KEY}"))
        assert to_send_again(await client.put(begun["upload_url"], content=PNG))
        root, _, token = several["upload_url"].partition("?")
        assert to_send_again(await client.put(f"{root}/1?{token}", content=PNG))
    said = [record for record in caplog.records if record.name.startswith("fooocus")]
    assert len(said) == 1
    assert "No space left" in said[0].getMessage()
    assert said[0].exc_info is None
    assert await parts.ledger.depth() == 0


async def test_calls_that_do_not_need_it_are_answered(
    client: httpx2.AsyncClient, blobs: AwayBlobs, dispatch: Dispatch, reach: Reach
) -> None:
    blobs.take_away()
    answer = await client.post(f"/queue/{FAST}", json=INPUT)
    assert answer.status_code == 200
    async with dispatch():
        await reach(answer.json()["request_id"], State.DONE)


async def test_a_file_that_cannot_be_read_is_refused_before_its_first_byte(
    client: httpx2.AsyncClient, parts: Parts, blobs: AwayBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    await parts.files.put(KEY, b"picture", "image/png")

    def failing(*_: object) -> bytes:
        raise OSError("disk")

    monkeypatch.setattr(blobs, "read", failing)
    assert to_send_again(await client.get(f"/files/{KEY}"))


async def test_a_picture_that_was_stored_before_another_failed_is_deleted(
    client: httpx2.AsyncClient, blobs: AwayBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = blobs.write

    def once(path: str, *more: object) -> None:
        if written:
            raise OSError("disk")
        written.append(path)
        write(path, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(blobs, "write", once)
    two = {**INPUT, "image_prompt_1": {"image_url": PIXEL, "type": "PyraCanny"}}
    two["image_prompt_2"] = two["image_prompt_1"]
    assert to_send_again(await client.post("/queue/fal-ai/fooocus/image-prompt", json=two))
    assert len(written) == 1
    assert [*blobs.list("inputs/")] == []


async def test_an_upload_that_the_disk_of_the_gateway_does_not_take_is_refused(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/dev/full stands for it: what is larger than memory is allowed to hold lies on disk while it arrives."""
    begun = await Uploader(client).begun()
    monkeypatch.setattr(body, "IN_MEMORY", 10)
    monkeypatch.setattr(
        body.tempfile,
        "TemporaryFile",
        lambda *_, **__: open("/dev/full", "w+b", buffering=0),  # noqa: SIM115
    )
    assert to_send_again(await client.put(begun["upload_url"], content=PNG + bytes(1_000_000)))
