"""The sync run: output, failure, deadline, and clients that leave (fal-protocol 3)."""

import asyncio
import json
from itertools import count
from typing import Any

import httpx2
import pytest

from gateway import retries
from gateway.app import create_app
from gateway.errors import ModelError, PlatformError, StoreUnavailable
from gateway.http.parts import Parts
from gateway.ledger.models import CancelAnswer, Outcome, State
from gateway.ledger.store import SqlLedger
from gateway.settings import GatewaySettings
from tests.gateway.fakes import FAST, INPUT, FakeRunner, LocalDispatcher, until
from tests.gateway.http.conftest import APP, Reach

RUN = f"/run/{FAST}"

pytestmark = pytest.mark.usefixtures("dispatched")


async def until_begun(runner: FakeRunner) -> str:
    await until(runner.begun)
    return runner.ids[0]


async def test_the_body_is_the_output(client: httpx2.AsyncClient, ledger: SqlLedger) -> None:
    answer = await client.post(RUN, json={**INPUT, "colour": "red"})
    assert answer.status_code == 200
    assert (answer.json()["seed"], answer.json()["prompt"]) == (7, "a red cube")
    assert "unknown:colour" in answer.headers["x-fooocus-inactive"]
    status = await ledger.status(answer.headers["x-fal-request-id"], APP)
    assert status is not None
    assert status.outcome is Outcome.OK


async def test_get_takes_the_input_from_the_query(client: httpx2.AsyncClient, runner: FakeRunner) -> None:
    query = {"prompt": "a red cube", "seed": "7", "num_images": "1", "expand_prompt": "false"}
    answer = await client.get(RUN, params=query)
    assert (answer.status_code, answer.json()["seed"]) == (200, 7)
    assert runner.seen[0].spec.expand_prompt is False


async def test_head_draws_nothing(client: httpx2.AsyncClient, runner: FakeRunner) -> None:
    assert (await client.head(RUN, params=INPUT)).status_code == 405
    assert runner.seen == []


async def test_a_failure_of_the_model_is_replayed(client: httpx2.AsyncClient, runner: FakeRunner) -> None:
    runner.fault = ModelError("image_too_small", "Too small.", ("image_url",), ctx={"min_height": 64, "min_width": 64})
    answer = await client.post(RUN, json=INPUT)
    assert (answer.status_code, answer.json()) == (422, runner.fault.body())
    assert answer.headers["x-fal-retryable"] == "false"
    assert answer.headers["x-fal-request-id"] == runner.ids[0]


async def test_what_is_refused_at_its_submit_takes_nobodys_place(
    client: httpx2.AsyncClient, dispatcher: LocalDispatcher
) -> None:
    assert dispatcher.dispatching is not None
    before = dispatcher.dispatching._free()
    answer = await client.post(RUN, json=INPUT, headers={"x-fal-queue-priority": "x"})
    assert answer.status_code == 400
    assert dispatcher.dispatching._free() == before


async def test_a_client_that_leaves_cancels(server: str, runner: FakeRunner, ledger: SqlLedger, reach: Reach) -> None:
    runner.pause_s = 60
    async with httpx2.AsyncClient() as client:
        call = asyncio.create_task(client.post(server + RUN, json=INPUT))
        request_id = await until_begun(runner)
        await reach(request_id, State.RUNNING)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    await reach(request_id, State.DONE)
    status = await ledger.status(request_id, APP)
    assert status is not None
    assert (status.outcome, status.error_type) == (Outcome.CANCELLED, "client_disconnected")
    answer = await ledger.answer(request_id, APP)
    assert answer is not None
    assert answer.status == 499
    await until(runner.all_left)


async def test_a_handler_that_is_cancelled_ends_its_request(
    client: httpx2.AsyncClient, runner: FakeRunner, ledger: SqlLedger, reach: Reach
) -> None:
    runner.pause_s = 60
    call = asyncio.create_task(client.post(RUN, json=INPUT))
    request_id = await until_begun(runner)
    await reach(request_id, State.RUNNING)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    status = await ledger.status(request_id, APP)
    assert status is not None
    assert (status.outcome, status.error_type) == (Outcome.CANCELLED, "client_disconnected")
    await until(runner.all_left)


async def test_the_cancel_route_ends_a_run(client: httpx2.AsyncClient, runner: FakeRunner, ledger: SqlLedger) -> None:
    runner.pause_s = 60
    call = asyncio.create_task(client.post(RUN, json=INPUT))
    request_id = await until_begun(runner)
    assert await ledger.cancel(request_id, APP) is CancelAnswer.REQUESTED
    answer = await asyncio.wait_for(call, 30)
    assert (answer.status_code, answer.json()["error_type"]) == (499, "client_cancelled")
    await until(runner.all_left)


async def test_a_run_that_does_not_start_in_time_is_given_up(
    client: httpx2.AsyncClient, runner: FakeRunner, ledger: SqlLedger
) -> None:
    runner.gate.clear()
    answer = await client.post(RUN, json=INPUT, headers={"x-fal-request-timeout": "1"})
    assert (answer.status_code, answer.json()["error_type"]) == (504, "request_timeout")
    assert answer.headers["x-fal-request-timeout-type"] == "user"
    await until(runner.all_left)
    status = await ledger.status(runner.ids[0], APP)
    assert status is not None
    assert status.outcome is Outcome.ERROR


async def test_the_deadline_is_to_start(client: httpx2.AsyncClient, runner: FakeRunner) -> None:
    runner.pause_s = 0.8
    answer = await client.post(RUN, json=INPUT, headers={"x-fal-request-timeout": "1.5"})
    assert answer.status_code == 200


@pytest.mark.parametrize("value", ["soon", "0.1", "-3", "nan", "inf"])
async def test_a_deadline_that_is_none_is_refused(client: httpx2.AsyncClient, value: str) -> None:
    answer = await client.post(RUN, json=INPUT, headers={"x-fal-request-timeout": value})
    assert (answer.status_code, answer.json()["error_type"]) == (400, "bad_request")


async def test_a_long_run_keeps_its_lease(client: httpx2.AsyncClient, runner: FakeRunner, ledger: SqlLedger) -> None:
    runner.steps, runner.pause_s = 3, 1.0
    call = asyncio.create_task(client.post(RUN, json=INPUT))
    request_id = await until_begun(runner)
    while not call.done():
        await ledger.expire()
        await asyncio.sleep(0.1)
    assert (await call).status_code == 200
    assert runner.ids == [request_id]


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    return settings.model_copy(update={"lease_s": 2.0})


async def test_a_run_whose_runner_is_lost_is_tried_again(client: httpx2.AsyncClient, runner: FakeRunner) -> None:
    lost = runner.fault = PlatformError("runner_disconnected", "lost")
    call = asyncio.create_task(client.post(RUN, json=INPUT))
    await until(runner.begun)
    await until(runner.all_left)
    assert runner.fault is lost
    runner.fault = None
    answer = await call
    assert answer.status_code == 200
    assert set(runner.ids) == {answer.headers["x-fal-request-id"]}


async def test_a_run_is_answered_where_the_dispatcher_says_nothing(
    client: httpx2.AsyncClient, runner: FakeRunner, dispatcher: LocalDispatcher
) -> None:
    dispatcher.away = True
    assert (await client.post(RUN, json=INPUT)).status_code == 200


@pytest.mark.parametrize("question", ["status", "answer"])
async def test_a_run_outlives_a_ledger_that_is_away_when_it_is_asked(
    client: httpx2.AsyncClient, ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    ask, times = getattr(ledger, question), count(1)

    async def at_last(*asked: Any) -> Any:
        if next(times) <= 3 * (len(retries.PAUSES_S) + 1):
            raise StoreUnavailable("ledger")
        return await ask(*asked)

    monkeypatch.setattr(retries, "PAUSES_S", (0.01, 0.01))
    monkeypatch.setattr(ledger, question, at_last)
    assert (await client.post(RUN, json=INPUT)).status_code == 200


async def test_clients_of_a_service_that_stops_are_told_so(
    client: httpx2.AsyncClient, runner: FakeRunner, dispatcher: LocalDispatcher, ledger: SqlLedger
) -> None:
    runner.pause_s = 60
    call = asyncio.create_task(client.post(RUN, json=INPUT))
    request_id = await until_begun(runner)
    dispatcher.broadcast.stop()
    answer = await asyncio.wait_for(call, 30)
    assert (answer.status_code, answer.json()["error_type"]) == (503, "runner_disconnected")
    status = await ledger.status(request_id, APP)
    assert status is not None
    assert (status.outcome, status.error_type) == (Outcome.ERROR, "runner_disconnected")


@pytest.mark.parametrize("way", ["", "/stream"])
async def test_a_server_that_loses_the_client_without_a_word_cancels(
    parts: Parts, runner: FakeRunner, ledger: SqlLedger, reach: Reach, way: str
) -> None:
    """As Ray Serve's proxy may: instead of the message that says so comes an error."""
    runner.pause_s = 60
    body = [json.dumps(INPUT).encode()]

    async def receive() -> dict[str, Any]:
        if body:
            return {"type": "http.request", "body": body.pop(), "more_body": False}
        await until(runner.begun)
        await reach(runner.ids[0], State.RUNNING)
        raise RuntimeError("the request is no longer active")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": RUN + way, "query_string": b"", "scheme": "http"}
    headers = {"headers": [(b"host", b"testserver")], "client": None, "server": ("testserver", 80)}
    await asyncio.wait_for(create_app(parts)({**scope, **headers}, receive, send), 10)
    status = await ledger.status(runner.ids[0], APP)
    assert status is not None
    assert (status.outcome, status.error_type) == (Outcome.CANCELLED, "client_disconnected")
    await until(runner.all_left)
