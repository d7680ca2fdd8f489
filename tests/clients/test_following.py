"""A request followed by its id: submit, status, result, in every way that the clients know."""

import time

import fal_client
import pytest

from tests.clients.conftest import Drive
from tests.clients.outputs import assert_fast_output

pytestmark = [pytest.mark.clients, pytest.mark.cluster]

ENDPOINT = "fal-ai/fast-fooocus-sdxl"
SEED = 5
PROMPT = "a red square"
SMALL = {"prompt": PROMPT, "image_size": {"width": 256, "height": 256}, "num_inference_steps": 4, "seed": SEED}
SIZE = (256, 256)


def test_python_follows_the_handle(base: str) -> None:
    handle = fal_client.submit(ENDPOINT, arguments=SMALL)
    events = list(handle.iter_events(with_logs=True))
    assert isinstance(events[-1], fal_client.Completed)
    assert events[-1].logs
    assert events[-1].error is None
    assert all(isinstance(event, fal_client.Queued | fal_client.InProgress) for event in events[:-1])
    assert_fast_output(handle.get(), SIZE, SEED, PROMPT)


def test_python_asks_by_endpoint_and_id(base: str) -> None:
    request_id = fal_client.submit(ENDPOINT, arguments=SMALL).request_id
    while not isinstance(fal_client.status(ENDPOINT, request_id, with_logs=True), fal_client.Completed):
        time.sleep(0.05)
    assert_fast_output(fal_client.result(ENDPOINT, request_id), SIZE, SEED, PROMPT)


async def test_async_python_follows_the_handle(base: str, async_client: fal_client.AsyncClient) -> None:
    handle = await async_client.submit(ENDPOINT, arguments=SMALL)
    events = [event async for event in handle.iter_events(with_logs=True)]
    assert isinstance(events[-1], fal_client.Completed)
    assert_fast_output(await handle.get(), SIZE, SEED, PROMPT)


async def test_async_python_subscribes_with_logs(base: str, async_client: fal_client.AsyncClient) -> None:
    logs: list[str] = []
    ids: list[str] = []

    def on_queue_update(update: fal_client.Status) -> None:
        if isinstance(update, fal_client.InProgress | fal_client.Completed):
            logs[:] = [log["message"] for log in update.logs or []]

    output = await async_client.subscribe(
        ENDPOINT, arguments=SMALL, with_logs=True, on_enqueue=ids.append, on_queue_update=on_queue_update
    )
    assert_fast_output(output, SIZE, SEED, PROMPT)
    assert len(ids) == 1
    assert logs


def test_python_runs_in_one_call(base: str) -> None:
    assert_fast_output(fal_client.run(ENDPOINT, arguments=SMALL), SIZE, SEED, PROMPT)


@pytest.mark.parametrize("way", ["middleware", "proxy", "fetch"])
def test_new_javascript_follows_by_id(drive: Drive, way: str) -> None:
    done = drive("new", way, "follow", ENDPOINT, SMALL)
    assert_fast_output(done["output"], SIZE, SEED, PROMPT)
    assert done["requestId"]
    assert done["statuses"][-1] == "COMPLETED"
    assert all(isinstance(position, int) for position in done["positions"])
    assert done["logs"]


def test_old_javascript_follows_by_id(drive: Drive) -> None:
    done = drive("old", "middleware", "follow", ENDPOINT, SMALL)
    assert_fast_output(done["output"], SIZE, SEED, PROMPT)
    assert done["logs"]


@pytest.mark.parametrize("way", ["middleware", "proxy"])
def test_new_javascript_runs_in_one_call(drive: Drive, way: str) -> None:
    done = drive("new", way, "run", ENDPOINT, SMALL)
    assert_fast_output(done["output"], SIZE, SEED, PROMPT)
    assert done["requestId"]


@pytest.mark.parametrize(
    ("client", "way"), [("new", "middleware"), ("new", "proxy"), ("new", "fetch"), ("old", "middleware")]
)
def test_javascript_subscribes_to_the_status_stream(drive: Drive, client: str, way: str) -> None:
    """The client joins the logs of the stream's events itself: repeated ones would be seen twice."""
    done = drive(client, way, "subscribe", ENDPOINT, SMALL, options={"mode": "streaming"})
    assert_fast_output(done["output"], SIZE, SEED, PROMPT)
    assert done["statuses"][-1] == "COMPLETED"
    assert done["logs"]
    assert len(done["logs"]) == len(set(done["logs"]))
