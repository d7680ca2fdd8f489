"""The replica that draws dies while it draws."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.cluster import kill_replicas
from tests.integration.calls import FAST, pixels, result, run, status, submit, wait_for, wait_until
from tests.integration.conftest import Service

pytestmark = pytest.mark.cluster

STARTED_S = 150.0  # at most, until another replica has started and drawn, on a machine that has others to do
SEEDED: Mapping[str, Any] = {
    "prompt": "a red circle on a white background",  # of which the model is sure: see test_batching
    "image_size": "square",
    "num_inference_steps": 24,
    "seed": 7,
    "format": "png",
}


def drawn(client: httpx2.Client, output: Mapping[str, Any]) -> list[NDArray[np.int16]]:
    return [pixels(client.get(image["url"]).content).astype(np.int16) for image in output["images"]]


@pytest.mark.long
def test_its_requests_are_drawn_again_as_if_nothing_had_happened(client: httpx2.Client, service: Service) -> None:
    """One that is queued and one whose client waits; Serve needs half a minute for another replica."""
    undisturbed = drawn(client, run(client, FAST, SEEDED))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(client.post, f"/{FAST}", json=dict(SEEDED), timeout=STARTED_S)
        submitted = submit(client, FAST, SEEDED)
        wait_until(lambda: service.stats().live_jobs == 2, "both to be drawn")
        kill_replicas(service.app, "Diffuser")
        wait_for(client, submitted, "COMPLETED", STARTED_S)
        answers = [result(client, submitted), running.result()]
    for answer in answers:
        assert answer.status_code == 200
        # beside the other one, or alone where it was not the first again
        assert np.abs(np.subtract(drawn(client, answer.json()), undisturbed)).max() <= 1
    levels = {line["level"] for line in status(client, submitted)["logs"]}
    assert levels == {"INFO", "ERROR"}  # of the lost attempt
