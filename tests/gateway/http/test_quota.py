"""What belongs to a key is its own, and no key has more than its limits say."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from gateway.app import Parts, create_app
from gateway.http.submission import UNKNOWN_SIZE, pixel_steps
from gateway.keys.base import KeyLimits, Scope
from gateway.keys.sql import SqlKeys
from gateway.ledger.models import Terms
from pipelines.spec import Guidance, Size, Spec
from tests.gateway.fakes import FAST, INPUT, work
from tests.gateway.http.conftest import APP, Dispatch
from tests.gateway.http.test_inputs import IN_BASE64

QUEUE = f"/queue/{FAST}"


@pytest.fixture
async def client(parts: Parts, keys: SqlKeys) -> AsyncIterator[httpx2.AsyncClient]:
    settings = parts.settings.model_copy(update={"keys": "required", "allowed_hosts": (), "open_calls_of_key": 1})
    app = create_app(Parts(settings, parts.ledger, parts.files, parts.dispatcher, keys=keys))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://testserver") as client:
        yield client


async def key_of(keys: SqlKeys, *scopes: Scope, limits: KeyLimits | None = None) -> tuple[str, dict[str, str]]:
    issued = await keys.create("app", scopes or (Scope.RUN,), limits or KeyLimits())
    return issued.key.id, {"authorization": f"Key {issued.credentials}"}


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/status"), ("GET", "/status?logs=1"), ("GET", ""), ("PUT", "/cancel")]
)
async def test_another_keys_request_is_unknown(
    client: httpx2.AsyncClient, keys: SqlKeys, method: str, path: str
) -> None:
    (_, owner), (_, stranger), (_, admin) = await key_of(keys), await key_of(keys), await key_of(keys, Scope.ADMIN)
    one = (await client.post(QUEUE, json=INPUT, headers=owner)).json()["request_id"]
    address = f"{QUEUE}/requests/{one}{path}"
    assert (await client.request(method, address, headers=stranger)).status_code == 404
    assert (await client.request(method, address, headers=admin)).status_code != 404
    assert (await client.request(method, address, headers=owner)).status_code != 404


async def test_what_a_key_asks_for_is_counted(client: httpx2.AsyncClient, keys: SqlKeys, dispatch: Dispatch) -> None:
    key, headers = await key_of(keys)
    body = {**INPUT, "image_size": {"width": 512, "height": 256}, "num_inference_steps": 4, "num_images": 2}
    async with dispatch():
        assert (await client.post(f"/run/{FAST}", json=body, headers=headers)).status_code == 200
    assert (await client.post(QUEUE, json=body, headers=headers)).status_code == 200
    assert (await client.post(QUEUE, json={**body, "num_images": -1}, headers=headers)).status_code == 422
    assert await keys.used(key) == (2, 2 * 512 * 256 * 4 * 2)


async def test_a_spent_budget_refuses_until_tomorrow(client: httpx2.AsyncClient, keys: SqlKeys) -> None:
    _, headers = await key_of(keys, limits=KeyLimits(pixel_steps=5 * 1024 * 1024))
    body = {**INPUT, "image_size": "square_hd", "num_inference_steps": 4}
    named = {**headers, "idempotency-key": "one"}
    first = await client.post(QUEUE, json=body, headers=named)
    assert first.status_code == 200
    for path in (QUEUE, f"/run/{FAST}"):
        refused = await client.post(path, json=body, headers=headers)
        assert (refused.status_code, refused.json()["error_type"]) == (403, "budget_exhausted")
    again = await client.post(QUEUE, json=body, headers=named)  # the answer to the first may have been lost
    assert again.json()["request_id"] == first.json()["request_id"]


async def test_a_full_queue_of_one_key_is_not_anothers(client: httpx2.AsyncClient, keys: SqlKeys) -> None:
    _, limited = await key_of(keys, limits=KeyLimits(queue_length=2))
    _, free = await key_of(keys)
    codes = [(await client.post(QUEUE, json=INPUT, headers=limited)).status_code for _ in range(3)]
    assert codes == [200, 200, 429]
    assert (await client.post(QUEUE, json=INPUT, headers=free)).status_code == 200


async def test_a_sync_run_beyond_what_may_be_open_is_refused(
    client: httpx2.AsyncClient, keys: SqlKeys, parts: Parts
) -> None:
    key, headers = await key_of(keys)
    await parts.ledger.submit(work("going"), APP, Terms(key=key, listener="elsewhere"))
    refused = await client.post(f"/run/{FAST}", json=INPUT, headers=headers)
    assert (refused.status_code, refused.headers["x-fal-needs-retry"]) == (429, "1")


async def test_calls_at_once_get_no_more_than_the_limits_together(
    client: httpx2.AsyncClient, keys: SqlKeys, parts: Parts
) -> None:
    """Each would find room for itself, looked at alone."""
    one = 4 * 1024 * 1024
    body = {**INPUT, "image_size": "square_hd", "num_inference_steps": 4}
    key, headers = await key_of(keys, limits=KeyLimits(pixel_steps=3 * one))
    answers = await asyncio.gather(*(client.post(QUEUE, json=body, headers=headers) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [403] * 7
    assert await keys.used(key) == (3, 3 * one)

    key, headers = await key_of(keys, limits=KeyLimits(queue_length=2))
    answers = await asyncio.gather(*(client.post(QUEUE, json=body, headers=headers) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [200] * 2 + [429] * 4
    assert await keys.used(key) == (2, 2 * one)  # what was refused is given back


async def test_a_refused_run_leaves_nothing_and_costs_nothing(
    client: httpx2.AsyncClient, keys: SqlKeys, parts: Parts
) -> None:
    key, headers = await key_of(keys)
    await parts.ledger.submit(work("going"), APP, Terms(key=key, listener="elsewhere"))
    body = {**INPUT, "image_url": IN_BASE64, "image_size": {"width": 512, "height": 512}}
    refused = await client.post(f"/run/{FAST}/image-to-image", json=body, headers=headers)
    assert refused.status_code == 429
    assert await keys.used(key) == (0, 0)
    assert not [path for path in (parts.settings.data_dir / "files").rglob("*") if path.is_file()]


def test_pixel_steps_are_those_of_all_pictures() -> None:
    spec = Spec(
        seeds=(1, 2), steps=10, sampler="euler", schedule="karras", guidance=Guidance(), size=Size(width=64, height=32)
    )
    assert pixel_steps(spec) == 64 * 32 * 10 * 2
    assert pixel_steps(spec.model_copy(update={"size": None})) == UNKNOWN_SIZE * 20
