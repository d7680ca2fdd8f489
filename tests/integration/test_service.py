"""The whole service on Ray: pocket family, ledger, files, engine, over HTTP."""

import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import httpx2
import numpy as np
import pytest
from PIL import Image

from tests.cluster import kill_replicas
from tests.deployments.fakes import wait_until

pytestmark = pytest.mark.cluster

FAST = "fal-ai/fast-fooocus-sdxl"
SMALL = {"image_size": {"width": 512, "height": 512}, "num_inference_steps": 8, "format": "png"}
LONG = {"prompt": "a city", "image_size": "square_hd", "num_inference_steps": 24, "num_images": 8}


@pytest.fixture(scope="module")
def client(service: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=service, timeout=120) as opened:
        yield opened


@pytest.fixture
def stats(service: str) -> Callable[[], Any]:
    from ray import serve

    diffuser = serve.get_deployment_handle("Diffuser", "service")
    return lambda: diffuser.stats.remote().result(timeout_s=30)


def draw(client: httpx2.Client, **arguments: Any) -> bytes:
    answer = client.post(f"/{FAST}", json={"prompt": "a red cube", **SMALL, **arguments})
    assert answer.status_code == 200, answer.text
    return client.get(answer.json()["images"][0]["url"]).raise_for_status().content


def submit(client: httpx2.Client, endpoint: str, arguments: dict[str, Any]) -> str:
    answer = client.post(f"/queue/{endpoint}", json=arguments)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["request_id"])


def status(client: httpx2.Client, endpoint: str, request_id: str) -> dict[str, Any]:
    answer = client.get(f"/queue/{endpoint}/requests/{request_id}/status", params={"logs": 1})
    return dict(answer.raise_for_status().json())


def result(client: httpx2.Client, endpoint: str, request_id: str) -> httpx2.Response:
    wait_until(lambda: status(client, endpoint, request_id)["status"] == "COMPLETED", 90)
    return client.get(f"/queue/{endpoint}/requests/{request_id}")


def pixels(png: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(png))).astype(int)


def test_a_queued_request_becomes_a_picture_with_a_log(client: httpx2.Client) -> None:
    request_id = submit(client, FAST, {"prompt": "a red cube", "seed": 5, **SMALL})
    answer = result(client, FAST, request_id)
    assert answer.status_code == 200
    body = answer.json()
    assert body["seed"] == 5
    assert body["has_nsfw_concepts"] == [False]
    (image,) = body["images"]
    content = client.get(image["url"]).raise_for_status().content
    assert pixels(content).shape == (512, 512, 3)
    assert image["file_size"] == len(content)
    assert [line["message"] for line in status(client, FAST, request_id)["logs"]][-1] == "Sampling step 8/8"


def test_the_same_request_twice_has_the_same_bytes(client: httpx2.Client) -> None:
    assert draw(client, seed=11) == draw(client, seed=11)


def test_another_seed_is_another_picture(client: httpx2.Client) -> None:
    assert np.abs(pixels(draw(client, seed=11)) - pixels(draw(client, seed=12))).mean() > 1


def test_eight_requests_at_once_share_calls_and_keep_their_pictures(
    client: httpx2.Client, stats: Callable[[], Any]
) -> None:
    different: list[dict[str, Any]] = [
        {"prompt": f"{number} things", "seed": number, "guidance_scale": 2 + number, "num_inference_steps": 8 + number}
        for number in range(8)
    ]
    before = stats()
    with ThreadPoolExecutor(8) as at_once:
        together = list(at_once.map(lambda arguments: draw(client, **arguments), different))
    after = stats()
    assert (after.unet_rows - before.unet_rows) / (after.unet_calls - before.unet_calls) > 3
    for arguments, picture in zip(different, together, strict=True):
        assert np.abs(pixels(draw(client, **arguments)) - pixels(picture)).max() <= 1


def test_a_running_request_that_is_cancelled_leaves_the_engine(client: httpx2.Client, stats: Callable[[], Any]) -> None:
    request_id = submit(client, FAST, LONG)
    wait_until(lambda: status(client, FAST, request_id)["status"] == "IN_PROGRESS")
    assert client.put(f"/queue/{FAST}/requests/{request_id}/cancel").status_code == 202
    wait_until(lambda: stats().live_jobs == 0, 10)
    assert result(client, FAST, request_id).status_code == 499


def test_the_job_of_a_sync_client_that_leaves_is_dropped(service: str, stats: Callable[[], Any]) -> None:
    began = stats().unet_calls
    leaving = HTTPConnection(urlsplit(service).netloc)
    leaving.request("POST", f"/{FAST}", json.dumps(LONG), {"content-type": "application/json"})
    wait_until(lambda: stats().unet_calls > began)
    leaving.close()
    wait_until(lambda: stats().live_jobs == 0, 10)


def test_a_lost_runner_ends_its_request_with_a_retryable_error_and_the_next_is_served(
    client: httpx2.Client, stats: Callable[[], Any]
) -> None:
    request_id = submit(client, FAST, LONG)
    wait_until(lambda: status(client, FAST, request_id)["status"] == "IN_PROGRESS")
    kill_replicas("service", "Diffuser")
    answer = result(client, FAST, request_id)
    assert answer.status_code == 503
    assert answer.headers["x-fal-retryable"] == "true"
    assert answer.headers["x-fal-error-type"] == "runner_disconnected"
    assert "try again" in answer.json()["detail"]
    wait_until(lambda: client.get("/ready").status_code == 200, 90)
    assert draw(client, seed=1)
