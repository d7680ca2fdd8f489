"""Serve's throughput mode, in which handles are by value: everything that works otherwise works there.

It takes a service of its own: a minute."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

from tests.cluster import free_port
from tests.integration.calls import (
    FAST,
    FAST_IMAGE_TO_IMAGE,
    content,
    pixels,
    result,
    run,
    submit,
    wait_for,
)
from tests.integration.sockets import listening
from tests.kills.service import Served

pytestmark = [pytest.mark.cluster, pytest.mark.long]

SIDE = 1280  # 4.9 MB of pixels, more than a message by value may have
LARGE = {
    "prompt": "a cube",
    "image_size": {"width": SIDE, "height": SIDE},
    "num_inference_steps": 4,
    "format": "png",
    "seed": 7,
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, pocket_family_folder: Path) -> Iterator[Served]:
    served = Served.start(
        tmp_path_factory.mktemp("throughput"),
        free_port(),
        "fake",
        pocket_family_folder,
        environment={
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",  # otherwise its end takes 30 s
        },
    )
    yield served
    served.stop()


@pytest.fixture
def client(served: Served) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=served.address, timeout=60, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("enable_safety_checker", [True, False])
def test_a_large_picture_from_a_text(client: httpx2.Client, enable_safety_checker: bool) -> None:
    output = run(client, FAST, {**LARGE, "enable_safety_checker": enable_safety_checker})
    assert (pixels(content(client, output)) == np.full((SIDE, SIDE, 3), LARGE["seed"])).all()


def test_a_large_picture_from_a_picture(client: httpx2.Client) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(noise).save(encoded, "PNG", compress_level=0)
    address = "data:image/png;base64," + base64.b64encode(encoded.getvalue()).decode()
    output = run(client, FAST_IMAGE_TO_IMAGE, {**LARGE, "image_url": address})
    assert pixels(content(client, output)).shape == (SIDE, SIDE, 3)


def test_a_large_picture_through_the_queue(client: httpx2.Client) -> None:
    answer = result(client, submit(client, FAST, LARGE))
    assert answer.status_code == 200
    assert pixels(content(client, answer.json())).shape == (SIDE, SIDE, 3)


def test_previews_come_while_it_is_drawn(client: httpx2.Client) -> None:
    with client.stream("POST", f"/{FAST}/stream", json={**LARGE, "num_inference_steps": 8}) as answer:
        events = [line for line in answer.iter_lines() if line.startswith("data: ")]
    assert sum("data:image/jpeg" in event for event in events) > 1
    assert "/files/outputs/" in events[-1]


def test_a_running_request_is_cancelled(served: Served, client: httpx2.Client) -> None:
    served.hold.touch()
    try:
        submitted = submit(client, FAST, LARGE)
        wait_for(client, submitted, "IN_PROGRESS")
        assert client.put(submitted["cancel_url"]).status_code == 202
        assert result(client, submitted).status_code == 499
    finally:
        served.hold.unlink()


def test_its_sockets_are_on_loopback_too(served: Served) -> None:
    assert [socket for socket in listening(served.process.pid) if not socket.is_loopback] == []
