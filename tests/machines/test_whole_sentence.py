"""A cluster that scales over many GPUs: the pocket model on three nodes of one logical GPU each, all at once."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from tests.integration.calls import FAST, FOOOCUS, pixels
from tests.machines.alone import Alone, drawing_alone
from tests.machines.asks import COLOURS
from tests.machines.config import scale
from tests.machines.counted import Counts, counts_of_replicas
from tests.machines.load import Ask, Load, Told
from tests.machines.staged import Machines
from tests.machines.watching import starts_s, watching

REQUESTS, NODES = 60, 3
PATIENCE_S = 300.0
DOWN_S = 90.0
KEEP_S = 15.0  # longer than Ray takes to export what a replica has counted
ALONE_S = 200.0
AGREE = 1e-3  # of the range of a value
HAD = 0.9  # of the requests: that went where their base was
SIDE = 320


def scaling(machines: Machines) -> dict[str, Any]:
    """The production file, from one replica to three, and no patience for what idles."""
    content = machines.production()
    scale(content, 1, NODES, wait_s=2, start_s=2, keep_s=KEEP_S)
    return content


@pytest.fixture(scope="module")
def deployed(machines: Machines) -> Machines:
    machines.deploy(scaling(machines))
    return machines


@pytest.fixture(scope="module")
def alone(machines: Machines, pocket_family_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alone]:
    """Begun before the cluster draws: it takes about as long."""
    with drawing_alone(unlike(), pocket_family_folder, tmp_path_factory.mktemp("alone")) as found:
        yield found


def unlike() -> list[Ask]:
    """Of two bases, and no two with the same prompt and seed. The model is sure of these prompts: where it is torn, the
    last bit of a sum, which the size of a batch decides, grows to a visible difference."""
    return [_of_lightning(number) if number % 3 == 2 else _of_lcm(number) for number in range(REQUESTS)]


def _of_lcm(number: int) -> Ask:
    given = {
        "prompt": _prompt(number),
        "image_size": {"width": SIDE, "height": SIDE},
        "num_inference_steps": 6 + number % 9,
        "guidance_scale": 1.5 + number / 30,
        "seed": 100 + number,
        "expand_prompt": False,
        "enable_refiner": False,
        "format": "png",
    }
    return Ask(FAST, given)


def _of_lightning(number: int) -> Ask:
    given = {
        "prompt": _prompt(number),
        "aspect_ratio": f"{SIDE}x{SIDE}",
        "performance": "Lightning",
        "styles": [],
        "seed": 100 + number,
        "output_format": "png",
    }
    return Ask(FOOOCUS, given)


def _prompt(number: int) -> str:
    shapes = ("circle", "square", "star")
    return f"a {COLOURS[number % len(COLOURS)]} {shapes[number // 3 % len(shapes)]} on a white background"


async def drawn(told: list[Told]) -> list[Any]:
    """The pictures."""
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        answers = [await client.get(one.body["images"][0]["url"]) for one in told]
    return [pixels(answer.content) for answer in answers]


async def counting(machines: Machines, counted: dict[str, Counts]) -> None:
    """Keep what replicas have counted, for those that end are asked no more."""
    while True:
        counted |= await asyncio.to_thread(counts_of_replicas, machines)
        await asyncio.sleep(3)


async def test_sixty_at_once_are_drawn_by_three_as_each_alone(
    alone: Alone, deployed: Machines, key: str, clients: None
) -> None:
    counted: dict[str, Counts] = {}
    with watching(deployed) as watched:
        counts = asyncio.create_task(counting(deployed, counted))
        began = time.monotonic()
        told = await Load(key, PATIENCE_S).of(unlike())
        took = time.monotonic() - began
        end = time.monotonic() + DOWN_S
        while watched.running != 1:
            assert time.monotonic() < end, watched.moments[-1]
            await asyncio.sleep(1)
        counts.cancel()
    ours = {replica: counted[replica] for replica in watched.lives() if replica in counted}
    found, built = (sum(getattr(one, name) for one in ours.values()) for name in ("found", "built"))
    print(f"{REQUESTS} in {took:.0f} s, {REQUESTS / took:.2f} a second; starts: {starts_s(deployed, watched)}")
    print(f"{found / (found + built):.3f} had their base; {ours}")
    assert [one.refused for one in told if one.refused] == []
    assert watched.most() == NODES
    assert watched.strangers == set()
    assert len(ours) == NODES
    assert all(one.rows / one.calls > 3 for one in ours.values())
    assert found + built == REQUESTS
    assert found >= HAD * REQUESTS
    together = await drawn(told)
    singly = await asyncio.to_thread(alone.pictures, REQUESTS, ALONE_S)
    for ask, picture, single in zip(unlike(), together, singly, strict=True):
        assert np.abs(single - picture).mean() / 255 < AGREE, ask
        assert np.abs(single - picture).max() <= 1, ask
