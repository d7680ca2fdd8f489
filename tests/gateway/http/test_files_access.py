"""Who may read a file and for how long, over the wire: settings, owners and lifecycles."""

import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from gateway.app import Parts, create_app
from gateway.files.backends import LocalFiles
from gateway.files.base import FileTerms
from gateway.keys.base import KeyLimits, Scope
from gateway.keys.sql import SqlKeys
from tests.gateway.fakes import FAST, INPUT, FakeRunner
from tests.gateway.http.storing import PNG, Uploader, beside, in_fals_shape

pytestmark = pytest.mark.usefixtures("dispatched")

REDRAW = "fal-ai/fast-fooocus-sdxl/image-to-image"
OUTPUT = "outputs/00000000-0000-4000-8000-000000000000/0.png"

Made = Callable[..., Any]


@pytest.fixture
async def nobody(locked: Parts, request: pytest.FixtureRequest) -> AsyncIterator[Uploader]:
    """A caller without a key; `files_access` as a test's parameter says."""
    changed = locked.settings.model_copy(update=getattr(request, "param", {}))
    parts = replace(locked, settings=changed)
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=create_app(parts)), base_url="http://testserver"
    ) as client:
        yield Uploader(client)


async def with_key(nobody: Uploader, keys: SqlKeys, *scopes: Scope) -> tuple[Uploader, str]:
    """A caller with a key of its own, and the key's id."""
    issued = await keys.create("app", scopes or (Scope.RUN, Scope.STORAGE), KeyLimits())
    return Uploader(nobody.client, {"authorization": f"Key {issued.credentials}"}), issued.key.id


async def seen(uploader: Uploader, url: str) -> int:
    return (await uploader.client.get(url, headers=uploader.headers)).status_code


def lifecycle(**said: Any) -> dict[str, str]:
    return {"x-fal-object-lifecycle": json.dumps(said)}


@pytest.mark.parametrize("nobody", [{}, {"files_access": "key"}], indirect=True, ids=["public", "key"])
async def test_files_are_public_or_their_keys(
    nobody: Uploader, keys: SqlKeys, request: pytest.FixtureRequest, locked: Parts
) -> None:
    owner, owner_id = await with_key(nobody, keys)
    other, _ = await with_key(nobody, keys)
    admin, _ = await with_key(nobody, keys, Scope.ADMIN)
    only_run, _ = await with_key(nobody, keys, Scope.RUN)
    await locked.files.put(OUTPUT, PNG, "image/png", FileTerms(owner_id))
    closed = request.node.callspec.id == "key"
    for url in (await owner.whole(PNG), f"/files/{OUTPUT}", f"/cdn/files/{OUTPUT}"):
        assert [await seen(one, url) for one in (owner, admin)] == [200, 200]
        assert {await seen(one, url) for one in (nobody, other, only_run)} == {404 if closed else 200}
        answer = await owner.client.get(url, headers=owner.headers)
        assert answer.headers["cache-control"].startswith("private" if closed else "public")


async def test_uploading_needs_the_scope_and_its_address_does_not(nobody: Uploader, keys: SqlKeys) -> None:
    only_run, _ = await with_key(nobody, keys, Scope.RUN)
    assert in_fals_shape(await nobody.initiate(), 401)
    assert in_fals_shape(await only_run.initiate(), 403)
    assert in_fals_shape(await nobody.client.post("/cdn/files/upload", content=PNG), 401)
    owner, _ = await with_key(nobody, keys)
    begun = await owner.begun()
    assert (await nobody.client.put(begun["upload_url"], content=PNG)).is_success
    sent = await nobody.client.post("/cdn/files/upload", content=PNG, headers=await owner.token())
    assert await seen(nobody, sent.json()["access_url"]) == 200


async def test_another_key_cannot_go_on_with_an_upload(nobody: Uploader, keys: SqlKeys) -> None:
    owner, _ = await with_key(nobody, keys)
    other, _ = await with_key(nobody, keys)
    begun = (await nobody.client.post("/cdn/files/upload/multipart", headers=await owner.token())).json()
    part = f"{begun['access_url']}/multipart/{begun['uploadId']}/1"
    assert in_fals_shape(await nobody.client.put(part, content=PNG), 401)
    assert in_fals_shape(await nobody.client.put(part, content=PNG, headers=await other.token()), 403)
    assert (await nobody.client.put(part, content=PNG, headers=await owner.token())).is_success


async def test_a_revoked_keys_addresses_are_nothing(nobody: Uploader, keys: SqlKeys) -> None:
    owner, owner_id = await with_key(nobody, keys)
    begun, parts = await owner.begun(), await owner.begun("initiate-multipart")
    await keys.revoke(owner_id)
    assert in_fals_shape(await nobody.client.put(begun["upload_url"], content=PNG), 403)
    assert in_fals_shape(await nobody.client.put(beside(parts["upload_url"], "1"), content=PNG), 403)


@pytest.mark.parametrize(("decision", "status"), [("hide", 404), ("forbid", 403), ("allow", 200)])
async def test_an_acl_closes_a_file_to_others(nobody: Uploader, keys: SqlKeys, decision: str, status: int) -> None:
    owner, _ = await with_key(nobody, keys)
    friend, friend_id = await with_key(nobody, keys)
    other, _ = await with_key(nobody, keys)
    rules = [{"user": friend_id, "decision": "allow"}]
    url = await owner.whole(PNG, lifecycle(initial_acl={"default": decision, "rules": rules}))
    assert [await seen(one, url) for one in (owner, friend)] == [200, 200]
    assert [await seen(one, url) for one in (other, nobody)] == [status, status]
    answer = await owner.client.get(url, headers=owner.headers)
    assert answer.headers["cache-control"].startswith("private")


@pytest.mark.parametrize("header", ["x-fal-object-lifecycle", "x-fal-object-lifecycle-preference"])
async def test_an_upload_ends_when_its_lifecycle_says(
    nobody: Uploader, keys: SqlKeys, locked: Parts, header: str
) -> None:
    owner, _ = await with_key(nobody, keys)
    url = await owner.whole(PNG, {header: '{"expiration_duration_seconds": 3600}'})
    answer = await nobody.client.get(url)
    assert 3500 < int(answer.headers["cache-control"].split("=")[1].split(",")[0]) <= 3600
    later = LocalFiles(locked.settings.data_dir / "files")
    later._clock = lambda: time.time() + 3601
    assert await later.stat(url.partition("/cdn/files/")[2]) is None
    assert await later.sweep() == 1
    assert await seen(nobody, url) == 404


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "7",
        "[]",
        '{"expiration_duration_seconds": "soon"}',
        '{"expiration_duration_seconds": 0}',
        '{"expiration_duration_seconds": -5}',
        '{"expiration_duration_seconds": 1e30}',
        '{"expiration_duration_seconds": NaN}',
        '{"initial_acl": {"default": "maybe"}}',
        '{"initial_acl": {"rules": [{"user": "x"}]}}',
        '{"initial_acl": {"rules": [' + ",".join(['{"user":"x","decision":"allow"}'] * 21) + "]}}",
        '{"x": "' + "y" * 2000 + '"}',
    ],
)
async def test_a_lifecycle_that_makes_no_sense_is_refused(client: httpx2.AsyncClient, text: str) -> None:
    headers = {"x-fal-object-lifecycle": text}
    assert in_fals_shape(await Uploader(client).initiate("initiate", headers), 400)
    assert in_fals_shape(await client.post("/cdn/files/upload", content=PNG, headers=headers), 400)
    preference = {"x-fal-object-lifecycle-preference": text}
    assert in_fals_shape(await client.post(f"/queue/{FAST}", json=INPUT, headers=preference), 400)


async def test_a_requests_outputs_get_its_owner_and_lifecycle(
    nobody: Uploader, keys: SqlKeys, runner: FakeRunner
) -> None:
    owner, owner_id = await with_key(nobody, keys)
    said = {"expiration_duration_seconds": 60, "initial_acl": {"default": "hide"}}
    headers = {**owner.headers, "x-fal-object-lifecycle-preference": json.dumps(said)}
    assert (await nobody.client.post(f"/run/{FAST}", json=INPUT, headers=headers)).is_success
    delivery = runner.seen[0].delivery
    assert (delivery.owner, delivery.expires_in_s) == (owner_id, 60)
    assert delivery.acl is not None
    assert delivery.acl.default == "hide"


@pytest.mark.parametrize("nobody", [{"outputs_expire_s": 77, "uploads_expire_s": 88}], indirect=True)
async def test_settings_say_how_long_files_are_kept_otherwise(
    nobody: Uploader, keys: SqlKeys, runner: FakeRunner, locked: Parts
) -> None:
    owner, _ = await with_key(nobody, keys)
    assert (await nobody.client.post(f"/run/{FAST}", json=INPUT, headers=owner.headers)).is_success
    assert runner.seen[0].delivery.expires_in_s == 77
    info = await locked.files.stat((await owner.whole(PNG)).partition("/files/")[2])
    assert info is not None
    assert info.terms.expires_at is not None
    assert 80 < info.terms.expires_at - time.time() <= 88


async def test_an_upload_is_drawn_over_without_being_fetched(
    nobody: Uploader, keys: SqlKeys, runner: FakeRunner, locked: Parts
) -> None:
    owner, _ = await with_key(nobody, keys)
    url = await owner.whole(PNG, lifecycle(expiration_duration_seconds=1))
    answer = await nobody.client.post(f"/run/{REDRAW}", json=drawing(url), headers=owner.headers)
    assert answer.status_code == 200, answer.text
    start = runner.seen[0].spec.start
    assert start is not None
    assert start.source.startswith("stored:inputs/")
    copied = await locked.files.get(start.source.removeprefix("stored:"))
    assert copied is not None
    assert copied.content == PNG


@pytest.mark.parametrize("nobody", [{"files_access": "key"}], indirect=True)
async def test_uploaded_weights_are_their_owners_to_draw_with_and_are_not_copied(
    nobody: Uploader, keys: SqlKeys, runner: FakeRunner
) -> None:
    owner, _ = await with_key(nobody, keys)
    other, _ = await with_key(nobody, keys)
    url = await owner.whole(b"weights")
    key = url.partition("/files/")[2]
    asked = {"prompt": "a cube", "loras": [{"path": "known", "scale": 1}, {"path": url, "scale": 1}]}
    answer = await nobody.client.post("/run/fal-ai/fooocus", json=asked, headers=owner.headers)
    assert answer.status_code == 200, answer.text
    assert [lora.source for lora in runner.seen[0].spec.loras[:2]] == [
        "known",
        f"stored:{key}#{hashlib.sha256(b'weights').hexdigest()}",
    ]
    refused = await nobody.client.post("/run/fal-ai/fooocus", json=asked, headers=other.headers)
    (entry,) = refused.json()["detail"]
    assert (entry["type"], entry["loc"]) == ("file_download_error", ["body", "loras", 1, "path"])
    stolen = {**asked, "loras": [{"path": f"stored:{key}#e", "scale": 1}]}
    refused = await nobody.client.post("/run/fal-ai/fooocus", json=stolen, headers=other.headers)
    assert [entry["type"] for entry in refused.json()["detail"]] == ["feature_not_supported"]
    embedded = {**INPUT, "embeddings": [{"path": url}]}
    assert (await nobody.client.post(f"/run/{FAST}", json=embedded, headers=owner.headers)).is_success
    assert runner.seen[-1].spec.embeddings[0].source == runner.seen[0].spec.loras[1].source
    refused = await nobody.client.post(f"/run/{FAST}", json=embedded, headers=other.headers)
    assert [entry["loc"] for entry in refused.json()["detail"]] == [["body", "embeddings", 0, "path"]]


@pytest.mark.parametrize("nobody", [{"files_access": "key"}], indirect=True)
async def test_another_keys_private_file_is_as_one_that_is_missing(nobody: Uploader, keys: SqlKeys) -> None:
    owner, _ = await with_key(nobody, keys)
    other, _ = await with_key(nobody, keys)
    url = await owner.whole(PNG)
    missing = f"{url[: url.index('/uploads/')]}/uploads/00000000-0000-4000-8000-000000000000/file.png"
    answers = [
        await nobody.client.post(f"/run/{REDRAW}", json=drawing(one), headers=other.headers) for one in (url, missing)
    ]
    assert [answer.status_code for answer in answers] == [422, 422]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["detail"][0]["type"] == "file_download_error"
    assert (await nobody.client.post(f"/run/{REDRAW}", json=drawing(url), headers=owner.headers)).is_success


@pytest.mark.parametrize(
    ("asked", "status", "content", "range"),
    [
        ("bytes=0-3", 206, PNG[:4], f"bytes 0-3/{len(PNG)}"),
        ("bytes=5-", 206, PNG[5:], f"bytes 5-{len(PNG) - 1}/{len(PNG)}"),
        ("bytes=-4", 206, PNG[-4:], f"bytes {len(PNG) - 4}-{len(PNG) - 1}/{len(PNG)}"),
        ("bytes=0-99999", 206, PNG, f"bytes 0-{len(PNG) - 1}/{len(PNG)}"),
        ("bytes=0-1,4-5", 200, PNG, None),
        ("bytes=-", 200, PNG, None),
        ("lines=1-2", 200, PNG, None),
    ],
)
async def test_a_range_is_served(
    client: httpx2.AsyncClient, asked: str, status: int, content: bytes, range: str | None
) -> None:
    url = await Uploader(client).whole(PNG)
    answer = await client.get(url, headers={"range": asked})
    assert (answer.status_code, answer.content, answer.headers.get("content-range")) == (status, content, range)


@pytest.mark.parametrize("asked", ["bytes=99999-", "bytes=5-2"])
async def test_a_range_outside_the_file_is_refused_in_fals_shape(client: httpx2.AsyncClient, asked: str) -> None:
    answer = await client.get(await Uploader(client).whole(PNG), headers={"range": asked})
    assert in_fals_shape(answer, 416)
    assert answer.headers["content-range"] == f"bytes */{len(PNG)}"


def drawing(url: str) -> Mapping[str, Any]:
    return {"prompt": "a cube", "image_url": url, "seed": 1}
