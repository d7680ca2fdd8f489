"""A streamed run, by the functions of each client that stream: previews, the output, failures, and leaving."""

import base64
import io
import time
from collections.abc import Mapping, Sequence
from typing import Any

import fal_client
import httpx2
import pytest
from PIL import Image

from tests.clients.conftest import Drive
from tests.clients.outputs import assert_fast_output

pytestmark = [pytest.mark.clients, pytest.mark.cluster]

ENDPOINT = "fal-ai/fast-fooocus-sdxl"
SEED = 5
PROMPT = "a red square"
SMALL = {"prompt": PROMPT, "image_size": {"width": 256, "height": 256}, "num_inference_steps": 8, "seed": SEED}
UNCHECKED = {**SMALL, "enable_safety_checker": False}
LONG = {"prompt": "a slow one", "num_images": 8, "num_inference_steps": 24}
SIZE = (256, 256)
PATIENCE_S = 60
MAX_BYTES = 20_000


def assert_streamed(events: Sequence[Mapping[str, Any]], side: int) -> None:
    """Steps that grow, at least one preview of `side` pixels, and the output at the end and nowhere else."""
    *on_the_way, output = events
    assert_fast_output(output, SIZE, SEED, PROMPT)
    steps = [event["step"] for event in on_the_way]
    assert steps == sorted(steps)
    assert {event["steps"] for event in on_the_way} == {SMALL["num_inference_steps"]}
    previews = [image for event in on_the_way for image in event["images"]]
    assert previews
    for preview in previews:
        head, _, content = preview["url"].partition(",")
        assert head == "data:image/jpeg;base64"
        file = base64.b64decode(content)
        assert len(file) == preview["file_size"] <= MAX_BYTES
        with Image.open(io.BytesIO(file)) as picture:
            assert picture.size == (preview["width"], preview["height"]) == (side, side)


def newest(base: str) -> dict[str, Any]:
    """The newest request, as the history has it."""
    found: dict[str, Any] = httpx2.get(f"{base}/requests", params={"limit": 1}).json()["requests"][0]
    return found


def assert_was_left(base: str, request_id: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while (found := httpx2.get(f"{base}/requests/{request_id}").json())["status"] != "COMPLETED":
        assert time.monotonic() < deadline, "the run that was left did not end"
        time.sleep(0.05)
    assert (found["outcome"], found["error_type"]) == ("cancelled", "client_disconnected")
    assert not any(line["message"] == "Sampling step 192/192" for line in found["logs"])


def test_python_streams(base: str) -> None:
    assert_streamed(list(fal_client.stream(ENDPOINT, arguments=UNCHECKED)), side=32)


async def test_async_python_streams(base: str, async_client: fal_client.AsyncClient) -> None:
    assert_streamed([event async for event in async_client.stream(ENDPOINT, arguments=UNCHECKED)], side=32)


def test_previews_are_coarse_while_the_safety_checker_may_object(base: str) -> None:
    assert_streamed(list(fal_client.stream(ENDPOINT, arguments=SMALL)), side=8)


@pytest.mark.parametrize("way", ["middleware", "proxy", "fetch"])
def test_new_javascript_streams(drive: Drive, way: str) -> None:
    done = drive("new", way, "stream", ENDPOINT, UNCHECKED)
    assert_streamed(done["events"], side=32)
    assert done["output"] == done["events"][-1]
    assert done["requestId"]


def test_new_javascript_streams_with_a_token(drive: Drive) -> None:
    """As in a browser: a short-lived token in the address instead of a key."""
    done = drive("new", "fetch", "stream", ENDPOINT, UNCHECKED, options={"connectionMode": "client"})
    assert_streamed(done["events"], side=32)


def test_old_javascript_streams(drive: Drive) -> None:
    done = drive("old", "middleware", "stream", ENDPOINT, UNCHECKED)
    assert_fast_output(done["output"], SIZE, SEED, PROMPT)
    assert any(event.get("images") for event in done["events"])


def test_a_stream_ends_as_the_run_would(base: str) -> None:
    *_, output = fal_client.stream(ENDPOINT, arguments=SMALL)
    found = newest(base)
    assert (found["endpoint_id"], found["outcome"]) == (ENDPOINT, "ok")
    result = fal_client.result(ENDPOINT, found["request_id"])
    assert result == output
    assert fal_client.run(ENDPOINT, arguments=SMALL)["images"][0]["file_size"] == output["images"][0]["file_size"]


def test_python_leaves(base: str) -> None:
    events = fal_client.stream(ENDPOINT, arguments=LONG)
    next(iter(events))
    request_id = newest(base)["request_id"]
    events.close()  # type: ignore[attr-defined]
    assert_was_left(base, request_id)


@pytest.mark.parametrize("way", ["middleware", "proxy"])
def test_javascript_leaves(base: str, drive: Drive, way: str) -> None:
    done = drive("new", way, "leave", ENDPOINT, LONG)
    assert_was_left(base, done["requestId"])


@pytest.mark.parametrize("way", ["middleware", "proxy"])
def test_javascript_gets_its_validation_error(drive: Drive, way: str) -> None:
    done = drive("new", way, "stream", ENDPOINT, {"num_inference_steps": 4}, fields=["prompt"])
    assert (done["error"]["type"], done["error"]["status"]) == ("ValidationError", 422)
    assert done["error"]["fields"]["prompt"][0]["type"] == "missing"


def test_javascript_gets_the_error_of_a_picture_that_cannot_be_fetched(drive: Drive) -> None:
    """Found out by the run itself, before anything is drawn."""
    pictured = {**SMALL, "image_url": "http://127.0.0.1:9/none.png"}
    done = drive("new", "middleware", "stream", f"{ENDPOINT}/image-to-image", pictured, fields=["image_url"])
    assert done["error"]["type"] == "ValidationError"
    assert done["error"]["fields"]["image_url"][0]["type"] == "file_download_error"


def test_python_hears_that_it_is_no_stream(base: str) -> None:
    with pytest.raises(Exception, match="text/event-stream"):
        list(fal_client.stream(ENDPOINT, arguments={"num_inference_steps": 4}))
