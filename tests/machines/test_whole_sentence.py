"""A cluster that scales over many GPUs: the pocket model on three nodes of one logical GPU each, all at once."""

import asyncio
import time
from typing import Any

import httpx2
import numpy as np
import pytest

from tests.integration.calls import FAST, pixels
from tests.machines.asks import COLOURS
from tests.machines.config import scale
from tests.machines.counted import calls_of_replicas
from tests.machines.load import Ask, Load, Told
from tests.machines.staged import Machines
from tests.machines.watching import watching

REQUESTS, NODES = 60, 3
PATIENCE_S = 400.0
DOWN_S = 90.0
AGREE = 1e-3  # of the range of a value
SIDE = 512


def scaling(machines: Machines) -> dict[str, Any]:
    """The production file, from one replica to three, and no patience for what idles."""
    content = machines.production()
    scale(content, 1, NODES, wait_s=2, start_s=2, keep_s=10)
    return content


@pytest.fixture(scope="module")
def deployed(machines: Machines) -> Machines:
    machines.deploy(scaling(machines))
    return machines


def unlike() -> list[Ask]:
    """No two with the same prompt, steps, guidance and seed. The model is sure of these prompts: where it is torn, the
    last bit of a sum, which the size of a batch decides, grows to a visible difference."""
    shapes = ("circle", "square", "star")
    return [
        Ask(
            FAST,
            {
                "prompt": f"a {COLOURS[number % len(COLOURS)]} {shapes[number % len(shapes)]} on a white background",
                "image_size": {"width": SIDE, "height": SIDE},
                "num_inference_steps": 16 + number % 9,
                "guidance_scale": 1.5 + number / 30,
                "seed": 100 + number,
                "expand_prompt": False,
                "format": "png",
            },
        )
        for number in range(REQUESTS)
    ]


async def drawn(told: list[Told]) -> list[Any]:
    """The pictures."""
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        answers = [await client.get(one.body["images"][0]["url"]) for one in told]
    return [pixels(answer.content) for answer in answers]


async def test_sixty_at_once_are_drawn_by_three_as_each_alone(deployed: Machines, key: str, clients: None) -> None:
    asks = unlike()
    counted: dict[str, tuple[float, float]] = {}
    with watching(deployed) as watched:
        begun = time.monotonic()
        load = asyncio.create_task(Load(key, PATIENCE_S).of(asks))
        while not load.done():
            counted |= await asyncio.to_thread(calls_of_replicas, deployed)
            await asyncio.sleep(2)
        told = await load
        took = time.monotonic() - begun
        counted |= await asyncio.to_thread(calls_of_replicas, deployed)
        end = time.monotonic() + DOWN_S
        while watched.moments[-1].running > 1:
            assert time.monotonic() < end, watched.moments[-1]
            await asyncio.sleep(1)
    print(f"{REQUESTS} in {took:.0f} s; calls and rows by replica: {counted}")
    assert [one.refused for one in told if one.refused] == []
    assert watched.most() == NODES
    together = await drawn(told)
    assert len(counted) == NODES
    assert all(rows / calls > 3 for calls, rows in counted.values()), counted
    for ask, picture in zip(asks, together, strict=True):
        (alone,) = await drawn(await Load(key, PATIENCE_S).of([ask]))
        assert np.abs(alone - picture).mean() / 255 < AGREE
        assert np.abs(alone - picture).max() <= 1
