"""Requests that come together are drawn together, and none of them shows it."""

import httpx2
import numpy as np
import pytest

from tests.integration.calls import FAST, SMALL, content, pixels, result, run, submit
from tests.integration.conftest import Service

pytestmark = pytest.mark.cluster

# what differs may differ within a call: prompt, seed, steps, guidance. The model is sure of these prompts: where it is
# torn, the last bit of a sum, which the size of a batch decides, grows to a visible difference
COLOURS = ("red", "green", "blue", "yellow", "purple", "pink", "black", "brown")
REQUESTS = [
    {
        **SMALL,
        "prompt": f"a {colour} circle on a white background",
        "seed": 100 + number,
        "num_inference_steps": 10 + number,
        "guidance_scale": 1.5 + number / 4,
    }
    for number, colour in enumerate(COLOURS)
]


def test_eight_at_once_share_calls_and_draw_what_each_draws_alone(client: httpx2.Client, service: Service) -> None:
    run(client, FAST, SMALL)  # the variant is built, so that the eight do not trickle in
    before = service.stats()
    submitted = [submit(client, FAST, request) for request in REQUESTS]
    together = [pixels(content(client, result(client, one).json())) for one in submitted]
    after = service.stats()
    assert (after.unet_rows - before.unet_rows) / (after.unet_calls - before.unet_calls) > 3
    for request, picture in zip(REQUESTS, together, strict=True):
        alone = pixels(content(client, run(client, FAST, request)))
        assert np.abs(alone - picture).max() <= 1
