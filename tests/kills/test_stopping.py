"""Ctrl-C with requests in every state: clients that wait are told, nothing stays with an owner, no attempt is lost."""

import asyncio
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from tests.cluster import free_port
from tests.deployments.fakes import wait_until
from tests.integration.calls import FAST
from tests.kills.client import Asking, receiver
from tests.kills.holding import FREE
from tests.kills.service import Served

pytestmark = pytest.mark.cluster

HELD = {"prompt": "a cube", "num_inference_steps": 4, "image_size": "square", "seed": FREE + 1}
QUEUED, RUNS = 20, 3  # of the first some are drawn, some prepared and some wait


@pytest.fixture
def served(tmp_path: Path, pocket_family_folder: Path) -> Iterator[Served]:
    """A service of its own, for it is stopped: half a minute."""
    served = Served.start(tmp_path, free_port(), "fake", pocket_family_folder)
    yield served
    served.stop()


def test_a_service_that_stops_leaves_nothing_with_an_owner(served: Served) -> None:
    served.hold.touch()
    with receiver() as hook, Asking(served.address) as client:
        queued = [client.submit(HELD, hook.url) for _ in range(QUEUED)]
        wait_until(lambda: client.state(queued[0]) == "IN_PROGRESS", 30)

        async def run_and_stop() -> list[httpx2.Response]:
            async with httpx2.AsyncClient(base_url=served.address, timeout=60, trust_env=False) as caller:
                runs = [asyncio.create_task(caller.post(f"/{FAST}", json=HELD)) for _ in range(RUNS)]
                await asyncio.to_thread(wait_until, lambda: counted(served, "sync") == RUNS, 30)
                served.process.send_signal(signal.SIGINT)
                return await asyncio.gather(*runs)

        for answer in asyncio.run(run_and_stop()):
            assert (answer.status_code, answer.json()["error_type"]) == (503, "runner_disconnected")
            assert answer.headers["x-fal-retryable"] == "true"
        assert served.process.wait(60) == 0
        assert counted(served, "NOT sync AND state = 'queued' AND retries = 0 AND crashes = 0") == QUEUED
        assert counted(served, "sync AND outcome = 'error' AND error_type = 'runner_disconnected'") == RUNS

        served.hold.unlink()
        served.start_again()
        for name in queued:
            wait_until(lambda name=name: client.state(name) == "COMPLETED", 60)  # type: ignore[misc]
            assert client.result(name)[0] == 200


def counted(served: Served, which: str) -> int:
    with closing(sqlite3.connect(served.data / "ledger.db")) as ledger:
        return int(ledger.execute(f"SELECT count(*) FROM request WHERE {which}").fetchone()[0])  # noqa: S608 (ours)
