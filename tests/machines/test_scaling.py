"""Replicas by the work that waits, from none to six and back, with an engine whose calls take what a table says."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.machines.asks import plain
from tests.machines.config import options_of, scale
from tests.machines.load import Load
from tests.machines.staged import Machines
from tests.machines.watching import Watched, watching

MOST = 6
REQUESTS = 120
PATIENCE_S = 300.0
DELAY_S = 20.0  # until a replica that is wanted draws, on a machine that starts several at once
DOWN_S = 60.0
OUT = "FOOOCUS_TEST_OUT"  # a folder for what was seen; the test's own without it


def sleeping(machines: Machines) -> dict[str, Any]:
    """The production file, with a sleeping engine, two replicas a GPU, and no patience for what idles."""
    content = machines.production()
    content["applications"][0]["import_path"] = "tests.machines.app:sleeping"
    diffuser = options_of(content, "Diffuser")
    diffuser["ray_actor_options"] |= {"num_gpus": 0.5, "num_cpus": 0.1}
    scale(content, 0, MOST, wait_s=2, start_s=5, keep_s=5, zero_s=10)
    return content


@pytest.fixture(scope="module")
def deployed(machines: Machines) -> Machines:
    machines.deploy(sleeping(machines))
    return machines


async def until(watched: Watched, replicas: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not watched.moments or watched.moments[-1].running != replicas:
        assert time.monotonic() < end, f"{watched.moments[-1:]} instead of {replicas}"
        await asyncio.sleep(0.5)


async def test_replicas_come_with_the_work_and_go_with_it(
    deployed: Machines, key: str, clients: None, tmp_path: Path
) -> None:
    with watching(deployed) as watched:
        await until(watched, 0, DOWN_S)
        begun = time.time()
        size = {"width": 1024, "height": 1024}
        told = await Load(key, PATIENCE_S).of(
            plain(REQUESTS, image_size=size, num_inference_steps=20, guidance_scale=4)
        )
        await until(watched, 0, DOWN_S)
    out = Path(os.environ.get(OUT, tmp_path))
    watched.write(deployed, out / "arrivals.jsonl", [one.request_id for one in told])
    assert [one.refused for one in told if one.refused] == []
    assert watched.most() == MOST
    wanted = next(moment.at for moment in watched.moments if moment.target == MOST)
    print(f"{MOST} wanted after {wanted - begun:.1f} s; idle for {watched.longest_idling_s():.1f} s at most; in {out}")
    assert wanted - begun < 3 + 2 * 1.0, f"six were wanted after {wanted - begun:.1f} s"
    assert watched.longest_idling_s() < DELAY_S
    rows = deployed.rows("state, outcome, attempt", "id = ANY(%s)", [[one.request_id for one in told]])
    assert set(rows) == {("done", "ok", 1)}
