"""The status stream, from a real server: new lines only, whole ASCII events, no early end (fal-protocol 4.4)."""

import asyncio
import json
import time
from typing import Any

import httpx2
import pytest

from gateway.http import statuses
from gateway.ledger.base import State, Status
from gateway.ledger.sql import SqlLedger
from tests.gateway.fakes import FAST, INPUT, FakeRunner
from tests.gateway.http.conftest import APP, Dispatch


async def submitted(client: httpx2.AsyncClient, server: str) -> str:
    request_id: str = (await client.post(f"{server}/queue/{FAST}", json=INPUT)).json()["request_id"]
    return request_id


async def test_a_request_is_followed_to_its_end(server: str, runner: FakeRunner, dispatch: Dispatch) -> None:
    runner.steps, runner.pause_s = 5, 0.15
    chunks: list[bytes] = []
    async with httpx2.AsyncClient() as client:
        request_id = await submitted(client, server)
        async with (
            dispatch(),
            client.stream("GET", f"{server}/queue/{FAST}/requests/{request_id}/status/stream?logs=1") as answer,
        ):
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["x-fal-request-id"] == request_id
            async for chunk in answer.aiter_raw():
                chunks.append(chunk)
                at_last = time.monotonic()
            lingered = time.monotonic() - at_last
    assert all(chunk.endswith(b"\n\n") for chunk in chunks)
    events: list[dict[str, Any]] = [
        json.loads(line.removeprefix("data: ")) for line in b"".join(chunks).decode("ascii").split("\n\n") if line
    ]
    assert events[0]["status"] == "IN_QUEUE"
    assert events[-1]["status"] == "COMPLETED"
    assert "IN_PROGRESS" in [event["status"] for event in events]
    assert all("logs" in event for event in events if event["status"] != "IN_QUEUE")
    lines = [log["message"] for event in events for log in event.get("logs") or []]
    assert lines == [f"Sampling step {step}/5" for step in range(6)]
    assert lingered >= 0.05


async def test_a_finished_request_is_one_event(server: str, ledger: SqlLedger, dispatch: Dispatch, reach: Any) -> None:
    async with httpx2.AsyncClient() as client:
        request_id = await submitted(client, server)
        async with dispatch():
            await reach(request_id, State.DONE)
        answer = await client.get(f"{server}/queue/{FAST}/requests/{request_id}/status/stream")
    (event,) = [line for line in answer.text.split("\n\n") if line]
    assert json.loads(event.removeprefix("data: "))["status"] == "COMPLETED"
    assert json.loads(event.removeprefix("data: "))["logs"] is None


async def test_events_are_ascii(ledger: SqlLedger) -> None:
    done = Status("one", APP, State.DONE, None, None, "größer als erlaubt", "file_too_large", None)
    (event,) = [event async for event in statuses.status_events(done, ledger, "http://x", False)]
    assert event.isascii()
    assert json.loads(event.removeprefix("data: "))["error"] == "größer als erlaubt"


async def test_a_quiet_stream_is_kept_alive(ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statuses, "KEEP_ALIVE_S", 0.3)
    monkeypatch.setattr(statuses, "POLL_S", 0.05)
    waiting = Status("one", APP, State.QUEUED, 0, None, None, None, None)
    events = statuses.status_events(waiting, ledger, "http://x", True)
    assert "IN_QUEUE" in await anext(events)
    assert (await anext(events)).startswith(": ")
    await events.aclose()  # type: ignore[attr-defined]


async def test_a_ledger_that_fails_for_a_moment_does_not_end_the_stream(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(statuses, "POLL_S", 0.01)
    answers: list[Any] = [OSError("disk"), Status("one", APP, State.DONE, None, None, None, None, None)]

    async def status(request_id: str, app: str) -> Status:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, Status)
        return found

    monkeypatch.setattr(ledger, "status", status)
    waiting = Status("one", APP, State.QUEUED, 0, None, None, None, None)
    events = [event async for event in statuses.status_events(waiting, ledger, "http://x", False)]
    assert "COMPLETED" in events[-1]


async def test_a_listener_that_leaves_stops_the_polling(
    server: str, ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls = 0
    status = ledger.status

    async def counted(request_id: str, app: str) -> Status | None:
        nonlocal polls
        polls += 1
        return await status(request_id, app)

    monkeypatch.setattr(ledger, "status", counted)
    async with httpx2.AsyncClient() as client:
        request_id = await submitted(client, server)
        async with client.stream("GET", f"{server}/queue/{FAST}/requests/{request_id}/status/stream") as answer:
            async for _ in answer.aiter_raw():
                break
    await asyncio.sleep(0.3)
    seen = polls
    await asyncio.sleep(0.6)
    assert polls == seen
