"""The replica that draws dies while it draws."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.cluster import kill_replicas
from tests.integration.calls import FAST, result, run, status, submit, wait_for, wait_until
from tests.integration.conftest import Service

pytestmark = pytest.mark.cluster

SEEDED: Mapping[str, Any] = {
    "prompt": "a slow one",
    "image_size": "square",
    "num_inference_steps": 24,
    "num_images": 2,
    "seed": 7,
    "format": "png",
}


def contents(client: httpx2.Client, output: Mapping[str, Any]) -> list[bytes]:
    return [client.get(image["url"]).content for image in output["images"]]


def test_its_request_is_drawn_again_as_if_nothing_had_happened(client: httpx2.Client, service: Service) -> None:
    undisturbed = contents(client, run(client, FAST, SEEDED))
    submitted = submit(client, FAST, SEEDED)
    wait_for(client, submitted, "IN_PROGRESS")
    kill_replicas(service.app, "Diffuser")
    answer = result(client, submitted)
    assert answer.status_code == 200
    assert contents(client, answer.json()) == undisturbed
    levels = {line["level"] for line in status(client, submitted)["logs"]}
    assert levels == {"INFO", "ERROR"}  # of the lost attempt


def test_a_sync_run_is_drawn_again_while_its_client_waits(client: httpx2.Client, service: Service) -> None:
    undisturbed = contents(client, run(client, FAST, SEEDED))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(client.post, f"/{FAST}", json=dict(SEEDED))
        wait_until(lambda: service.stats().live_jobs == 1, "the run to be drawn")
        kill_replicas(service.app, "Diffuser")
        answer = running.result()
    assert answer.status_code == 200
    assert contents(client, answer.json()) == undisturbed
