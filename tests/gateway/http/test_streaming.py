"""A streamed run: previews on the way, the output last, failures as clients hear them, and clients that leave."""

import asyncio
import base64
import json
from collections.abc import Mapping
from typing import Any

import httpx2
import pytest

from gateway.app import create_app
from gateway.errors import ModelError, PlatformError
from gateway.http import run
from gateway.http.parts import Parts
from gateway.http.run import RunNews
from gateway.keys.base import KeyLimits, Scope
from gateway.keys.sql import SqlKeys
from gateway.ledger.models import Outcome, State
from gateway.ledger.store import SqlLedger
from gateway.work import Preview, Step
from tests.gateway.fakes import FAST, INPUT, FakeRunner, until
from tests.gateway.http.conftest import APP, Reach

STREAM = f"/run/{FAST}/stream"

pytestmark = pytest.mark.usefixtures("dispatched")


def events_of(text: str) -> list[dict[str, Any]]:
    """The data of each event of a stream, told apart as clients do it."""
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    lines = [line for block in blocks for line in block.split("\n") if line.startswith("data: ")]
    assert len(lines) == len(blocks)
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def numbers(event: Mapping[str, Any]) -> tuple[int, int]:
    return event["step"], event["steps"]


async def test_previews_come_first_and_the_output_last(
    client: httpx2.AsyncClient, runner: FakeRunner, ledger: SqlLedger
) -> None:
    runner.pause_s = 0.05
    answer = await client.post(STREAM, json={**INPUT, "colour": "red"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert "unknown:colour" in answer.headers["x-fooocus-inactive"]
    *previews, output = events_of(answer.text)
    assert [numbers(event) for event in previews] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert previews[0]["images"] == []
    assert previews[1]["images"] == [
        {
            "url": f"data:image/jpeg;base64,{base64.b64encode(b'1').decode()}",
            "content_type": "image/jpeg",
            "file_size": 1,
            "width": 4,
            "height": 3,
        }
    ]
    request_id = answer.headers["x-fal-request-id"]
    written = await ledger.answer(request_id, APP)
    assert written is not None
    assert output == written.body == (await client.get(f"/queue/{APP}/requests/{request_id}")).json()


async def test_the_input_may_come_by_query(client: httpx2.AsyncClient, runner: FakeRunner) -> None:
    answer = await client.get(
        STREAM, params={"prompt": "a red cube", "seed": "7", "fal_jwt_token": "x", "request_id": "y"}
    )
    assert events_of(answer.text)[-1]["seed"] == 7
    assert answer.headers["x-fooocus-inactive"] == "request_id"  # and not the token


async def test_head_draws_nothing(client: httpx2.AsyncClient, runner: FakeRunner) -> None:
    assert (await client.head(STREAM, params=INPUT)).status_code == 405
    assert runner.seen == []


async def test_a_sync_run_is_not_asked_for_previews(client: httpx2.AsyncClient, runner: FakeRunner) -> None:
    asked: list[bool] = []
    run = runner.run

    def noting(work: Any, previews: bool = False) -> Any:
        asked.append(previews)
        return run(work, previews)

    runner.run = noting  # type: ignore[method-assign]
    await client.post(f"/run/{FAST}", json=INPUT)
    await client.post(STREAM, json=INPUT)
    assert asked == [False, True]


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (ModelError("file_download_error", "missing", ("image_url",)), 422),
        (PlatformError("runner_disconnected", "lost"), 503),
    ],
)
async def test_what_fails_before_it_begins_is_an_error(
    client: httpx2.AsyncClient, runner: FakeRunner, fault: ModelError | PlatformError, status: int
) -> None:
    runner.steps, runner.fault = -1, fault
    answer = await client.post(STREAM, json=INPUT, headers={"x-fal-no-retry": "1"})
    assert (answer.status_code, answer.json()) == (status, fault.body())
    assert answer.headers["x-fal-request-id"] == runner.ids[0]


async def test_an_input_that_is_none_is_an_error(client: httpx2.AsyncClient, runner: FakeRunner) -> None:
    answer = await client.post(STREAM, json={"num_images": 99, "prompt": "x"})
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "num_images"])
    assert runner.seen == []


async def test_what_fails_later_is_told_by_the_last_event(client: httpx2.AsyncClient, runner: FakeRunner) -> None:
    runner.pause_s, runner.fault = 0.02, ModelError("no_media_generated", "nothing came")
    answer = await client.post(STREAM, json=INPUT)
    assert answer.status_code == 200
    assert events_of(answer.text)[-1] == {**runner.fault.body(), "status_code": 422}
    assert "event: error\ndata: " in answer.text


async def test_a_client_that_leaves_cancels(server: str, runner: FakeRunner, ledger: SqlLedger, reach: Reach) -> None:
    runner.steps, runner.pause_s = 50, 0.2
    async with httpx2.AsyncClient() as client, client.stream("POST", server + STREAM, json=INPUT) as answer:
        request_id = answer.headers["x-fal-request-id"]
        async for _ in answer.aiter_raw():
            break
    await until(runner.all_left)
    await reach(request_id, State.DONE)
    status = await ledger.status(request_id, APP)
    assert status is not None
    assert (status.outcome, status.error_type) == (Outcome.CANCELLED, "client_disconnected")


async def test_a_client_that_leaves_before_anything_was_drawn_cancels(
    server: str, runner: FakeRunner, reach: Reach
) -> None:
    runner.gate.clear()
    async with httpx2.AsyncClient() as client:
        call = asyncio.create_task(client.post(server + STREAM, json=INPUT))
        await until(runner.begun)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    await reach(runner.ids[0], State.DONE)
    await until(runner.all_left)


async def test_the_cancel_route_ends_a_stream(server: str, runner: FakeRunner) -> None:
    runner.steps, runner.pause_s = 50, 0.2
    async with httpx2.AsyncClient() as client:
        call = asyncio.create_task(client.post(server + STREAM, json=INPUT))
        await until(runner.begun)
        await client.put(f"{server}/queue/{APP}/requests/{runner.ids[0]}/cancel")
        answer = await asyncio.wait_for(call, 30)
    last = events_of(answer.text)[-1]
    assert (last["status_code"], last["error_type"]) == (499, "client_cancelled")


async def test_a_quiet_stream_is_kept_alive(
    client: httpx2.AsyncClient, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "KEEP_ALIVE_S", 0.05)
    runner.gate.clear()
    call = asyncio.create_task(client.post(STREAM, json=INPUT))
    await until(runner.begun)
    await asyncio.sleep(0.2)
    runner.gate.set()
    answer = await call
    assert answer.text.startswith(": keep-alive\n\n")
    assert events_of(answer.text)[-1]["seed"] == 7


def test_steps_alone_are_told_twice_a_second_and_previews_at_once() -> None:
    news = RunNews()
    news.put(Step(0, 9))
    assert news.read() == {"step": 0, "steps": 9, "images": []}
    news.put(Step(1, 9))
    assert news.read() is None
    news.put(Step(2, 9))
    news.put(Preview(2, 9, [b"x"], "image/jpeg", 1, 1))
    read = news.read()
    assert read is not None
    assert (read["step"], len(read["images"])) == (2, 1)
    assert news.read() is None


def test_a_preview_that_comes_late_does_not_lead_a_stream_back() -> None:
    news = RunNews()
    told = []
    for step, of_preview in ((0, None), (5, None), (None, 3), (6, 5), (8, None), (None, 6)):
        if step is not None:
            news.put(Step(step, 8))
        if of_preview is not None:
            news.put(Preview(of_preview, 8, [b"x"], "image/jpeg", 1, 1))
        if (event := news.read()) is not None:
            told.append((event["step"], len(event["images"])))
    assert told == [(0, 0), (5, 1), (6, 1), (8, 1)]


def test_a_run_that_begins_anew_tells_so() -> None:
    news = RunNews()
    told = []
    for event in (Step(5, 8), Preview(5, 8, [b"x"], "image/jpeg", 1, 1), Step(1, 8), Preview(1, 8, [b"y"], "a", 1, 1)):
        news.put(event)
        if (read := news.read()) is not None:
            told.append(read["step"])
    assert told == [5, 5, 1]


async def test_keys_and_streaming_tokens_open_it(parts: Parts) -> None:
    keys = await SqlKeys.open(parts.settings.ledger_address)
    settings = parts.settings.model_copy(update={"keys": "required", "allowed_hosts": ()})
    app = create_app(Parts(settings, parts.ledger, parts.files, parts.dispatcher, keys=keys))
    issued = await keys.create("app", [Scope.RUN], KeyLimits(), None)
    key = {"authorization": f"Key {issued.credentials}"}
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://testserver") as client:
        assert (await client.post(STREAM, json=INPUT)).status_code == 401
        assert events_of((await client.post(STREAM, json=INPUT, headers=key)).text)[-1]["seed"] == 7
        asked = {"allowed_apps": [FAST.split("/")[1]], "token_expiration": 60}
        token = (await client.post("/rest/tokens/", json=asked, headers=key)).json()
        answer = await client.post(STREAM, params={"fal_jwt_token": token}, json=INPUT)
        assert events_of(answer.text)[-1]["seed"] == 7
    await keys.close()
