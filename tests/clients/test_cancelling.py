"""A request that its client gives up, while it waits and while it is drawn."""

import time

import fal_client
import pytest

from tests.clients.conftest import Drive

pytestmark = [pytest.mark.clients, pytest.mark.cluster]

ENDPOINT = "fal-ai/fast-fooocus-sdxl"
LONG = {"prompt": "a slow one", "num_images": 8, "num_inference_steps": 24}
PATIENCE_S = 60


def assert_ends_cancelled(handle: fal_client.SyncRequestHandle) -> None:
    deadline = time.monotonic() + PATIENCE_S
    status = handle.status()
    while not isinstance(status, fal_client.Completed):
        assert time.monotonic() < deadline, "the cancelled request did not end"
        time.sleep(0.05)
        status = handle.status()
    assert status.error_type == "client_cancelled"
    with pytest.raises(fal_client.FalClientHTTPError) as refused:
        handle.get()
    assert refused.value.status_code == 499


def test_python_cancels_at_once(base: str) -> None:
    handle = fal_client.submit(ENDPOINT, arguments=LONG)
    handle.cancel()
    assert_ends_cancelled(handle)


def test_python_cancels_while_it_is_drawn(base: str) -> None:
    handle = fal_client.submit(ENDPOINT, arguments=LONG)
    for event in handle.iter_events():
        if isinstance(event, fal_client.InProgress):
            break
    began = time.monotonic()
    handle.cancel()
    assert_ends_cancelled(handle)
    assert time.monotonic() - began < PATIENCE_S / 2


async def test_async_python_cancels_while_it_is_drawn(base: str, async_client: fal_client.AsyncClient) -> None:
    handle = await async_client.submit(ENDPOINT, arguments=LONG)
    async for event in handle.iter_events():
        if isinstance(event, fal_client.InProgress):
            break
    await handle.cancel()
    with pytest.raises(fal_client.FalClientHTTPError) as refused:
        await handle.get()
    assert refused.value.status_code == 499


def test_a_client_that_runs_out_of_patience_cancels(base: str) -> None:
    ids: list[str] = []
    with pytest.raises(fal_client.FalClientTimeoutError):
        fal_client.subscribe(ENDPOINT, arguments=LONG, client_timeout=4, on_enqueue=ids.append)
    handle = fal_client.sync_client.get_handle(ENDPOINT, ids[0])
    assert_ends_cancelled(handle)


def test_a_finished_request_is_not_cancelled(base: str) -> None:
    handle = fal_client.submit(
        ENDPOINT, arguments={"prompt": "quick", "image_size": "square", "num_inference_steps": 1}
    )
    handle.get()
    with pytest.raises(fal_client.FalClientHTTPError, match="ALREADY_COMPLETED") as refused:
        handle.cancel()
    assert refused.value.status_code == 400


def test_an_unknown_request_is_not_cancelled(base: str) -> None:
    with pytest.raises(fal_client.FalClientHTTPError, match="NOT_FOUND") as refused:
        fal_client.cancel(ENDPOINT, "00000000-0000-4000-8000-000000000000")
    assert refused.value.status_code == 404


@pytest.mark.parametrize(("client", "way"), [("new", "middleware"), ("new", "proxy"), ("old", "middleware")])
def test_javascript_cancels_while_it_is_drawn(drive: Drive, client: str, way: str) -> None:
    done = drive(client, way, "cancel", ENDPOINT, LONG, cancelAt="IN_PROGRESS")
    assert done["statuses"][-1] == "COMPLETED"
    assert done["error"]["type"] == "ApiError"
    assert done["error"]["status"] == 499
