"""Many clients at once: a queue of a hundred and fifty subscribers behind it, and nobody sees an error."""

import asyncio
from collections.abc import Mapping
from typing import Any

import fal_client
import pytest

pytestmark = [pytest.mark.clients, pytest.mark.cluster]

ENDPOINT = "fal-ai/fast-fooocus-sdxl"
QUEUED, SUBSCRIBERS = 100, 50
TINY: Mapping[str, Any] = {
    "prompt": "a red square",
    "image_size": {"width": 64, "height": 64},
    "num_inference_steps": 1,
    "enable_safety_checker": False,
}


@pytest.mark.long
async def test_async_python_subscribes_fifty_times_behind_a_hundred(
    base: str, async_client: fal_client.AsyncClient
) -> None:
    handles = [await async_client.submit(ENDPOINT, arguments={**TINY, "seed": seed}) for seed in range(QUEUED)]
    outputs = await asyncio.gather(
        *(async_client.subscribe(ENDPOINT, arguments={**TINY, "seed": 1000 + seed}) for seed in range(SUBSCRIBERS))
    )
    assert [output["seed"] for output in outputs] == list(range(1000, 1000 + SUBSCRIBERS))
    assert [(await handle.get())["seed"] for handle in handles] == list(range(QUEUED))
    assert len({output["images"][0]["url"] for output in outputs}) == SUBSCRIBERS
