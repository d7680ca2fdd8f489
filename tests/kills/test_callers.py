"""One caller against all: cancels that break off, calls without end, a key's limits, addresses that are guessed."""

import asyncio
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from hashlib import blake2b
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from gateway.keys.base import KeyLimits
from tests.deployments.fakes import wait_until
from tests.integration.calls import FAST
from tests.kills.conftest import NewKey
from tests.kills.holding import FREE
from tests.kills.service import Served

pytestmark = pytest.mark.cluster

FREELY: Mapping[str, Any] = {"prompt": "a cube", "num_inference_steps": 4, "image_size": "square", "seed": 1}
HELD: Mapping[str, Any] = {**FREELY, "seed": FREE + 1}
BROKEN_OFF = 150
OPENED = 200


@pytest.fixture
def client(keyed: Served) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=keyed.address, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture
def held(keyed: Served) -> Iterator[None]:
    """The engine holds what it begins."""
    keyed.hold.touch()
    yield
    keyed.hold.unlink(missing_ok=True)


def submit(client: httpx2.Client, headers: Mapping[str, str], input: Mapping[str, Any]) -> str:
    answer = client.post(f"/queue/{FAST}", json=dict(input), headers=headers)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["request_id"])


def state(client: httpx2.Client, headers: Mapping[str, str], request_id: str) -> str:
    answer = client.get(f"/queue/{FAST}/requests/{request_id}/status", headers=headers)
    return str(answer.json()["status"])


def test_cancels_whose_callers_hang_up_leave_the_ledger_free(
    keyed: Served, client: httpx2.Client, new_key: NewKey
) -> None:
    key = new_key(KeyLimits())
    host = urlsplit(keyed.address)
    for number in range(BROKEN_OFF):
        path = f"/queue/{FAST}/requests/{submit(client, key, HELD)}/cancel"
        head = f"PUT {path} HTTP/1.1\r\nhost: {host.netloc}\r\nauthorization: {key['authorization']}\r\n"
        with socket.create_connection((host.hostname or "", host.port or 0)) as connection:
            connection.sendall(f"{head}content-length: 0\r\n\r\n".encode())
            time.sleep(0.001 * (number % 30))
    with closing(sqlite3.connect(keyed.data / "ledger.db", timeout=5, isolation_level=None)) as ledger:
        ledger.execute("BEGIN IMMEDIATE")
        ledger.execute("ROLLBACK")
    last = submit(client, key, FREELY)
    wait_until(lambda: state(client, key, last) == "COMPLETED", 30)


@pytest.mark.long
def test_a_key_that_opens_runs_without_end_does_not_keep_another_from_beginning(
    keyed: Served, client: httpx2.Client, new_key: NewKey, held: None
) -> None:
    many, other = new_key(KeyLimits()), new_key(KeyLimits())
    heavy = {**HELD, "num_images": 4, "image_size": {"width": 2048, "height": 2048}, "num_inference_steps": 8}

    async def open_runs() -> Counter[int]:
        limits = httpx2.Limits(max_connections=OPENED)
        async with httpx2.AsyncClient(base_url=keyed.address, timeout=90, trust_env=False, limits=limits) as caller:
            calls = [asyncio.create_task(caller.post(f"/{FAST}", json=heavy, headers=many)) for _ in range(OPENED)]
            await asyncio.sleep(2)
            await asyncio.to_thread(another_begins)
            keyed.hold.unlink()
            return Counter([(await call).status_code for call in calls])

    def another_begins() -> None:
        begun = submit(client, other, HELD)
        wait_until(lambda: state(client, other, begun) == "IN_PROGRESS", 30)

    codes = asyncio.run(open_runs())
    assert set(codes) == {200, 429}
    assert codes[200] == 128  # gateway.open_calls_of_key


def test_a_key_has_no_more_at_once_than_it_may_in_the_queue_and_in_runs_together(
    keyed: Served, client: httpx2.Client, new_key: NewKey, held: None
) -> None:
    key = new_key(KeyLimits(concurrency=2))
    queued = [submit(client, key, HELD) for _ in range(3)]

    async def run_too() -> list[int]:
        async with httpx2.AsyncClient(base_url=keyed.address, timeout=60, trust_env=False) as caller:
            calls = [asyncio.create_task(caller.post(f"/{FAST}", json=dict(HELD), headers=key)) for _ in range(3)]
            await asyncio.to_thread(wait_until, lambda: running() == 2, 30)
            for _ in range(10):
                assert await asyncio.to_thread(running) <= 2
                await asyncio.sleep(0.1)
            keyed.hold.unlink()
            return [(await call).status_code for call in calls]

    def running() -> int:
        listed = client.get("/queue/requests", params={"limit": 100}, headers=key).json()["requests"]
        return sum(one["status"] == "IN_PROGRESS" for one in listed)

    assert asyncio.run(run_too()) == [200] * 3
    for one in queued:
        wait_until(lambda one=one: state(client, key, one) == "COMPLETED", 30)  # type: ignore[misc]


def test_the_address_of_a_picture_does_not_follow_from_its_request(client: httpx2.Client, new_key: NewKey) -> None:
    key = new_key(KeyLimits())
    answer = client.post(f"/{FAST}", json=dict(FREELY), headers=key)
    (image,) = answer.json()["images"]
    request_id = answer.headers["x-fal-request-id"]
    guessed = blake2b(f"{request_id}/0".encode(), digest_size=16).hexdigest()
    kind = image["url"].rpartition(".")[2]
    assert client.get(f"/files/outputs/{request_id}/{guessed}.{kind}", headers=key).status_code == 404
    assert client.get(image["url"], headers=key).status_code == 200
