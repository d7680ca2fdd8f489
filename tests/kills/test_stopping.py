"""Ctrl-C with requests in every state: clients that wait are told, nothing stays with an owner, no attempt is lost."""

import asyncio
import signal
import sqlite3
from contextlib import closing

import httpx2
import pytest

from gateway.keys.base import KeyLimits
from tests.deployments.fakes import wait_until
from tests.integration.calls import FAST
from tests.kills.client import Asking, receiver
from tests.kills.conftest import NewKey
from tests.kills.holding import FREE
from tests.kills.service import Served

pytestmark = pytest.mark.cluster

HELD = {"prompt": "a cube", "num_inference_steps": 4, "image_size": "square", "seed": FREE + 1}
QUEUED, RUNS = 20, 3  # of the first some are drawn, some prepared and some wait


@pytest.mark.long
def test_a_service_that_stops_leaves_nothing_with_an_owner(keyed: Served, new_key: NewKey) -> None:
    """Half a minute: it stops and starts again."""
    keyed.hold.touch()
    key = new_key(KeyLimits())

    def counted(which: str) -> int:
        """How many of this test's requests are so."""
        with closing(sqlite3.connect(keyed.data / "ledger.db")) as ledger:
            query = f"SELECT count(*) FROM request WHERE key = ? AND {which}"  # noqa: S608 (ours)
            return int(
                ledger.execute(query, [key["authorization"].removeprefix("Key ").partition(":")[0]]).fetchone()[0]
            )

    with receiver() as hook, Asking(keyed.address, key) as client:
        queued = [client.submit(HELD, hook.url) for _ in range(QUEUED)]
        wait_until(lambda: client.state(queued[0]) == "IN_PROGRESS", 30)

        async def run_and_stop() -> list[httpx2.Response]:
            async with httpx2.AsyncClient(base_url=keyed.address, timeout=60, trust_env=False, headers=key) as caller:
                runs = [asyncio.create_task(caller.post(f"/{FAST}", json=HELD)) for _ in range(RUNS)]
                await asyncio.to_thread(wait_until, lambda: counted("sync") == RUNS, 30)
                keyed.process.send_signal(signal.SIGINT)
                return await asyncio.gather(*runs)

        for answer in asyncio.run(run_and_stop()):
            assert (answer.status_code, answer.json()["error_type"]) == (503, "runner_disconnected")
            assert answer.headers["x-fal-retryable"] == "true"
        assert keyed.process.wait(60) == 0
        assert counted("NOT sync AND state = 'queued' AND retries = 0 AND crashes = 0") == QUEUED
        assert counted("sync AND outcome = 'error' AND error_type = 'runner_disconnected'") == RUNS

        keyed.hold.unlink()
        keyed.start_again()
        for name in queued:
            wait_until(lambda name=name: client.state(name) == "COMPLETED", 60)  # type: ignore[misc]
            assert client.result(name)[0] == 200
