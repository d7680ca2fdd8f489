"""Replicas by the work that waits, from none to six and back, with an engine whose calls take what a table says."""

import asyncio
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.machines.app import COSTS
from tests.machines.asks import plain
from tests.machines.config import options_of, scale
from tests.machines.load import Load
from tests.machines.staged import OUT, Machines
from tests.machines.watching import (
    Watched,
    drawn_of,
    longest_beside_idle_s,
    starts_s,
    waits_of,
    wanted_at,
    watching,
    write,
)

MOST = 6
REQUESTS = 60
PATIENCE_S = 300.0
TARGET_S = 3.0  # from a burst to what it needs, at a push interval of one second
DELAY_S = 5.0  # what the rules take for a start
FULL_MS = 30.0  # of a row in a full call of the engine
DOWN_S = 90.0
LARGE: Mapping[str, Any] = {  # a quarter of a call, so that few requests are work for six
    "image_size": {"width": 1024, "height": 1024},
    "num_inference_steps": 24,
    "guidance_scale": 4,
    "num_images": 2,
}


def sleeping(machines: Machines) -> dict[str, Any]:
    """The production file, with a sleeping engine, two replicas a GPU, and no patience for what idles."""
    content = machines.production()
    content["applications"][0]["import_path"] = "tests.machines.app:sleeping"
    diffuser = options_of(content, "Diffuser")
    diffuser["ray_actor_options"] |= {"num_gpus": 0.5, "num_cpus": 0.1}
    scale(content, 0, MOST, wait_s=2, start_s=DELAY_S, keep_s=5, zero_s=10, ms_per_row_step=FULL_MS)
    return content


@pytest.fixture(scope="module")
def deployed(machines: Machines) -> Machines:
    machines.deploy(sleeping(machines))
    return machines


@pytest.fixture(scope="module")
def key(machines: Machines) -> str:
    """Of a client that may have all there is; another's part of it is left free."""
    return machines.new_key("--concurrency", "1000")


async def until(watched: Watched, replicas: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while watched.running != replicas:
        assert time.monotonic() < end, f"{watched.moments[-1:]} instead of {replicas}"
        await asyncio.sleep(0.5)


async def test_replicas_come_with_the_work_and_go_with_it(
    deployed: Machines, key: str, clients: None, tmp_path: Path
) -> None:
    with watching(deployed) as watched:
        await until(watched, 0, DOWN_S)
        told = await Load(key, PATIENCE_S).of(plain(REQUESTS, **LARGE))
        await until(watched, 0, DOWN_S)
    names = [one.request_id for one in told]
    costs = dict(json.loads(COSTS.read_text())["points"])
    out = Path(os.environ.get(OUT, tmp_path)) / "arrivals.jsonl"
    write(deployed, watched, out, names, sleeping(deployed), costs)
    waits = waits_of(deployed, names)
    idling = longest_beside_idle_s(watched.lives(), drawn_of(deployed, names), waits)
    wanted = wanted_at(deployed, watched, MOST) - min(since for since, _ in waits)
    starts = starts_s(deployed, watched)
    print(f"{MOST} wanted after {wanted:.1f} s, {idling:.1f} s beside an idle one at most, starts {starts}")
    print(f"waits: {sorted(round(until - since, 1) for since, until in waits)}; see {out}")
    assert [one.refused for one in told if one.refused] == []
    assert watched.most() == MOST
    assert wanted < TARGET_S
    assert idling < DELAY_S
    assert watched.strangers == set()
    rows = deployed.rows("state, outcome, attempt", "id = ANY(%s)", [names])
    assert set(rows) == {("done", "ok", 1)}
