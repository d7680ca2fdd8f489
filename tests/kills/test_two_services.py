"""Two services on one database, each with its own gateways and dispatcher: what holds of a key holds over both."""

import asyncio
import base64
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest

from gateway.keys.base import KeyLimits, Scope
from gateway.keys.sql import SqlKeys
from tests.cluster import free_port
from tests.deployments.fakes import wait_until
from tests.gateway.files import s3_server
from tests.gateway.ledger.postgresql import serving
from tests.integration.calls import FAST
from tests.kills.client import PATIENCE_S
from tests.kills.holding import FREE
from tests.kills.service import Served

pytestmark = [pytest.mark.cluster, pytest.mark.long]

MOST = 2
QUEUED, RUNS = 4, 3  # at each service
HELD_S = 5.0
ASKED = {"prompt": "a cube", "num_inference_steps": 4, "image_size": "square", "seed": FREE + 1}


@pytest.fixture
def services(tmp_path_factory: pytest.TempPathFactory, pocket_family_folder: Any) -> Iterator[tuple[str, list[Served]]]:
    """The database's address, and two services on it."""
    with serving() as server, s3_server.serving() as bucket, ExitStack() as stack:
        url = server.create("shared")
        gateway = {
            "ledger_url": "env:LEDGER_URL",
            "keys": "required",
            "token_secret": "env:TOKEN_SECRET",
            "webhook_keys": ["env:WEBHOOK_KEY"],
            "files_url": f"s3://{s3_server.BUCKET}/shared",
            "files_endpoint_url": bucket.endpoint_url,
        }
        secrets = {"LEDGER_URL": url, "TOKEN_SECRET": "s" * 32, "WEBHOOK_KEY": base64.b64encode(b"k" * 32).decode()}
        secrets |= bucket.environment()
        started = []
        for name in ("first", "second"):
            home = tmp_path_factory.mktemp(name)
            served = Served.start(
                home,
                free_port(),
                "fake",
                pocket_family_folder,
                gateway=gateway,
                limits={"stop_grace_s": 1},
                environment=secrets,
            )
            stack.callback(served.stop)
            started.append(served)
        yield url, started


def new_key(url: str) -> dict[str, str]:
    async def made() -> str:
        keys = await SqlKeys.open(url)
        try:
            return (await keys.create("test", [Scope.RUN], KeyLimits(concurrency=MOST))).credentials
        finally:
            await keys.close()

    return {"authorization": f"Key {asyncio.run(made())}"}


def test_a_key_has_no_more_at_once_than_it_may_over_two_services(services: tuple[str, list[Served]]) -> None:
    url, both = services
    headers = new_key(url)
    with ExitStack() as stack:
        clients = [
            stack.enter_context(
                httpx2.Client(base_url=served.address, timeout=PATIENCE_S, trust_env=False, headers=headers)
            )
            for served in both
        ]
        calls = stack.enter_context(ThreadPoolExecutor(2 * RUNS))
        for served in both:
            served.hold.touch()
        stack.callback(lambda: [served.hold.unlink(missing_ok=True) for served in both])
        for client in clients:
            for _ in range(QUEUED):
                assert client.post(f"/queue/{FAST}", json=ASKED).status_code == 200
        runs = [calls.submit(client.post, f"/{FAST}", json=ASKED) for client in clients for _ in range(RUNS)]

        def states() -> Sequence[str]:
            found = [client.get("/queue/requests", params={"limit": 100}).json()["requests"] for client in clients]
            running = [sum(one["status"] == "IN_PROGRESS" for one in listed) for listed in found]
            assert max(running) <= MOST, running
            return [one["status"] for one in found[0]]

        wait_until(lambda: states().count("IN_PROGRESS") == MOST and len(states()) == 2 * (QUEUED + RUNS))
        end = time.monotonic() + HELD_S
        while time.monotonic() < end:
            assert states().count("IN_PROGRESS") == MOST
        for served in both:
            served.hold.unlink()
        wait_until(lambda: {*states()} == {"COMPLETED"}, PATIENCE_S)
        assert [run.result().status_code for run in runs] == [200] * len(runs)
        listed = clients[0].get("/queue/requests", params={"limit": 100}).json()["requests"]
        assert {one["outcome"] for one in listed} == {"ok"}
