"""The queue's routes over a real ledger (fal-protocol 0, 4)."""

import re
import uuid
from typing import Any
from unittest.mock import Mock

import httpx2
import pytest

from gateway.errors import ModelError, PlatformError
from gateway.ledger.models import State
from gateway.ledger.positions import Positions
from gateway.ledger.store import SqlLedger
from tests.gateway.fakes import FAST, INPUT, PIXEL, FakeRunner, until
from tests.gateway.http.conftest import APP, Dispatch, Reach

IMAGE_TO_IMAGE = f"{FAST}/image-to-image"
UUID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}")


async def submit(client: httpx2.AsyncClient, endpoint: str = FAST, **more: Any) -> dict[str, Any]:
    answer = await client.post(f"/queue/{endpoint}", json={**INPUT, **more})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def until_logged(ledger: SqlLedger, request_id: str) -> None:
    async def logged() -> bool:
        return bool(await ledger.logs(request_id))

    await until(logged)


async def test_the_answer_to_a_submit_has_all_that_clients_read(client: httpx2.AsyncClient) -> None:
    answer = await client.post(f"/queue/{FAST}", json=INPUT)
    body = answer.json()
    request_id = body["request_id"]
    root = f"http://testserver:8000/queue/{FAST}/requests/{request_id}"
    assert answer.status_code == 200
    assert body == {
        "status": "IN_QUEUE",
        "request_id": request_id,
        "gateway_request_id": request_id,
        "queue_position": 0,
        "response_url": root,
        "status_url": f"{root}/status",
        "cancel_url": f"{root}/cancel",
    }
    assert UUID.fullmatch(request_id)
    assert answer.headers["x-fal-request-id"] == request_id
    assert answer.headers["content-type"] == "application/json"


async def test_a_waiting_request_has_its_position(client: httpx2.AsyncClient) -> None:
    first, second = await submit(client), await submit(client)
    assert second["queue_position"] == 1
    for submitted, position in ((first, 0), (second, 1)):
        answer = await client.get(submitted["status_url"], params={"logs": "false"})
        assert answer.status_code == 202
        assert (answer.json()["status"], answer.json()["queue_position"]) == ("IN_QUEUE", position)
        assert answer.json()["request_id"] == submitted["request_id"]


@pytest.mark.parametrize(("asked", "given"), [("1", True), ("true", True), ("0", False), ("false", False), ("", False)])
async def test_logs_is_always_a_key_and_filled_when_asked_for(
    client: httpx2.AsyncClient,
    ledger: SqlLedger,
    runner: FakeRunner,
    dispatch: Dispatch,
    reach: Reach,
    asked: str,
    given: bool,
) -> None:
    submitted = await submit(client)
    runner.steps, runner.pause_s = 2, 0.3
    query = {"logs": asked} if asked else {}
    async with dispatch():
        await reach(submitted["request_id"], State.RUNNING)
        await until_logged(ledger, submitted["request_id"])
        running = await client.get(submitted["status_url"], params=query)
        await reach(submitted["request_id"], State.DONE)
    done = await client.get(submitted["status_url"], params=query)
    assert (running.status_code, running.json()["status"]) == (202, "IN_PROGRESS")
    assert (done.status_code, done.json()["status"]) == (200, "COMPLETED")
    if not given:
        assert running.json()["logs"] is None
        assert done.json()["logs"] is None
    else:
        assert running.json()["logs"]
        assert [log["message"] for log in done.json()["logs"]] == [f"Sampling step {step}/2" for step in range(3)]
        assert set(done.json()["logs"][0]) == {"message", "timestamp", "level", "source", "labels"}


async def test_a_completed_status_has_metrics_and_no_error(
    client: httpx2.AsyncClient, dispatch: Dispatch, reach: Reach
) -> None:
    submitted = await submit(client)
    async with dispatch():
        await reach(submitted["request_id"], State.DONE)
    body = (await client.get(submitted["status_url"])).json()
    assert isinstance(body["metrics"]["inference_time"], float)
    assert "error" not in body


@pytest.mark.parametrize("form", ["", "/response"])
async def test_the_result_is_the_output(
    client: httpx2.AsyncClient, dispatch: Dispatch, reach: Reach, form: str
) -> None:
    submitted = await submit(client)
    async with dispatch():
        await reach(submitted["request_id"], State.DONE)
    answer = await client.get(submitted["response_url"] + form)
    assert answer.status_code == 200
    assert (answer.json()["seed"], answer.json()["prompt"]) == (7, "a red cube")
    assert answer.json()["images"][0]["url"].startswith("http://testserver:8000/files/outputs/")
    assert answer.headers["x-fal-request-id"] == submitted["request_id"]


async def test_a_result_goes_out_as_it_is_stored(
    client: httpx2.AsyncClient, ledger: SqlLedger, dispatch: Dispatch, reach: Reach
) -> None:
    submitted = await submit(client, prompt="größer")
    async with dispatch():
        await reach(submitted["request_id"], State.DONE)
    stored = await ledger.answer(submitted["request_id"], APP)
    answer = await client.get(submitted["response_url"])
    assert stored is not None
    assert (answer.text, answer.headers["content-type"]) == (stored.text, "application/json")
    assert answer.json() == stored.body


@pytest.mark.parametrize("path", [FAST, IMAGE_TO_IMAGE])
async def test_a_request_of_a_sub_path_is_found_with_and_without_it(client: httpx2.AsyncClient, path: str) -> None:
    submitted = await submit(client, IMAGE_TO_IMAGE, image_url=PIXEL)
    answer = await client.get(f"/queue/{path}/requests/{submitted['request_id']}/status")
    assert answer.status_code == 202
    assert f"/{FAST}/requests/" in submitted["status_url"]


async def test_inline_pictures_are_not_in_the_ledger(client: httpx2.AsyncClient, ledger: SqlLedger) -> None:
    submitted = await submit(client, IMAGE_TO_IMAGE, image_url=PIXEL)
    (claim,) = await ledger.claim("me", 1, 5)
    assert claim.work.spec.start is not None
    assert claim.work.spec.start.source.startswith(f"stored:inputs/{submitted['request_id']}/")


async def test_the_result_of_a_waiting_request_is_a_plain_400(client: httpx2.AsyncClient) -> None:
    submitted = await submit(client)
    answer = await client.get(submitted["response_url"])
    assert answer.status_code == 400
    assert answer.json()["detail"] == "Request is still in progress"


@pytest.mark.parametrize(
    "fault", [ModelError("file_download_error", "No such file.", ("image_url",)), PlatformError("internal_error", "x")]
)
async def test_a_failure_is_completed_and_replayed(
    client: httpx2.AsyncClient,
    runner: FakeRunner,
    dispatch: Dispatch,
    reach: Reach,
    fault: ModelError | PlatformError,
) -> None:
    runner.fault = fault
    submitted = await submit(client)
    async with dispatch():
        await reach(submitted["request_id"], State.DONE)
    status = await client.get(submitted["status_url"])
    assert (status.status_code, status.json()["status"]) == (200, "COMPLETED")
    assert status.json()["error"]
    assert status.json()["error_type"]
    result = await client.get(submitted["response_url"])
    assert (result.status_code, result.json()) == (fault.status, fault.body())
    assert result.headers["x-fal-retryable"] == fault.headers()["x-fal-retryable"]


async def test_cancelling_a_waiting_request(
    client: httpx2.AsyncClient, dispatch: Dispatch, runner: FakeRunner, reach: Reach
) -> None:
    submitted = await submit(client)
    answer = await client.put(submitted["cancel_url"])
    assert (answer.status_code, answer.json()) == (202, {"status": "OK"})
    later = await submit(client)
    async with dispatch():
        await reach(later["request_id"], State.DONE)
    assert runner.ids == [later["request_id"]]
    assert (await client.get(submitted["status_url"])).json()["error_type"] == "client_cancelled"
    result = await client.get(submitted["response_url"])
    assert (result.status_code, result.json()["error_type"]) == (499, "client_cancelled")


async def test_cancelling_a_running_request(
    client: httpx2.AsyncClient, dispatch: Dispatch, runner: FakeRunner, reach: Reach
) -> None:
    runner.pause_s = 60
    submitted = await submit(client)
    async with dispatch():
        await reach(submitted["request_id"], State.RUNNING)
        answer = await client.put(submitted["cancel_url"])
        assert (answer.status_code, answer.json()) == (202, {"status": "CANCELLATION_REQUESTED"})
        await reach(submitted["request_id"], State.DONE)
    assert (await client.get(submitted["response_url"])).status_code == 499
    again = await client.put(submitted["cancel_url"])
    assert (again.status_code, again.json()["status"]) == (400, "ALREADY_COMPLETED")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("GET", "/response"), ("GET", "/status"), ("GET", "/status/stream"), ("PUT", "/cancel")],
)
@pytest.mark.parametrize("known", [False, True])
async def test_an_unknown_id_or_another_app_is_not_found(
    client: httpx2.AsyncClient, method: str, path: str, known: bool
) -> None:
    request_id = (await submit(client))["request_id"] if known else str(uuid.uuid4())
    app = "fal-ai/fooocus" if known else FAST
    answer = await client.request(method, f"/queue/{app}/requests/{request_id}{path}")
    assert answer.status_code == 404
    assert answer.json()["detail"]
    if path == "/cancel":
        assert answer.json()["status"] == "NOT_FOUND"


async def test_a_queue_that_is_longer_than_the_client_likes(client: httpx2.AsyncClient, ledger: SqlLedger) -> None:
    for _ in range(2):
        await submit(client)
    accepted = await client.post(f"/queue/{FAST}", params={"fal_max_queue_length": "2"}, json=INPUT)
    assert accepted.status_code == 200
    refused = await client.post(f"/queue/{FAST}", params={"fal_max_queue_length": "2"}, json=INPUT)
    assert refused.status_code == 429
    assert (refused.headers["retry-after"], refused.headers["x-fal-needs-retry"]) == ("5", "1")
    assert await ledger.depth() == 3
    wrong = await client.post(f"/queue/{FAST}", params={"fal_max_queue_length": "few"}, json=INPUT)
    assert wrong.status_code == 400


async def test_what_does_not_act_is_named(client: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "fooocus.gateway")
    body = {**INPUT, "enable_refiner": False, "request_id": "abc", "colour": "red"}
    answer = await client.post(f"/queue/{FAST}", json=body, headers={"x-fal-whatever": "1"})
    named = set(answer.headers["x-fooocus-inactive"].split(", "))
    assert named == {"request_id", "unknown:colour"}
    assert "unknown:colour" in caplog.text
    assert answer.json()["request_id"] in caplog.text


async def test_nothing_is_named_when_all_acts(client: httpx2.AsyncClient) -> None:
    body = {**INPUT, "enable_refiner": False, "expand_prompt": False}
    answer = await client.post(f"/queue/{FAST}", json=body, headers={"x-fal-queue-priority": "normal"})
    assert "x-fooocus-inactive" not in answer.headers


async def test_a_status_costs_one_read(
    client: httpx2.AsyncClient, ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_positions", Positions(ledger.database, age_s=60))
    submitted = await submit(client)  # for which the order is read, as for all within the age
    reading = Mock(wraps=ledger.database.read)
    monkeypatch.setattr(ledger.database, "read", reading)
    await client.get(submitted["status_url"])
    assert reading.call_count == 1
