"""The status stream, from a real server: new lines only, whole ASCII events, no early end (fal-protocol 4.4)."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from gateway.http import queue, responses
from gateway.http.long_poll import StatusBroadcaster
from gateway.keys.base import Caller, Scope
from gateway.ledger.models import LogEntry, State, Status
from gateway.ledger.store import SqlLedger
from tests.gateway.fakes import FAST, INPUT, FakeRunner, LocalDispatcher, until
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


def following(status: Status, ledger: SqlLedger, with_logs: bool = False) -> AsyncIterator[str]:
    return responses.status_events(status, ledger, StatusBroadcaster(ledger, LocalDispatcher()), "http://x", with_logs)


async def test_events_are_ascii(ledger: SqlLedger) -> None:
    done = Status("one", APP, State.DONE, None, None, "größer als erlaubt", "file_too_large", None)
    (event,) = [event async for event in following(done, ledger)]
    assert event.isascii()
    assert json.loads(event.removeprefix("data: "))["error"] == "größer als erlaubt"


async def test_a_quiet_stream_is_kept_alive(
    client: httpx2.AsyncClient, ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responses, "KEEP_ALIVE_S", 0.05)
    request_id = (await client.post(f"/queue/{FAST}", json=INPUT)).json()["request_id"]
    status = await ledger.status(request_id, APP)
    assert status is not None
    events = following(status, ledger, True)
    assert "IN_QUEUE" in await anext(events)
    assert (await anext(events)).startswith(": ")
    await events.aclose()  # type: ignore[attr-defined]


async def test_a_log_that_fails_for_a_moment_does_not_end_the_stream(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(responses, "PERIOD_S", 0.01)
    line = LogEntry(1, datetime.now(UTC), "INFO", "line")
    answers: list[Any] = [OSError("disk"), [line]]

    async def logs(request_id: str, after: int = 0) -> Any:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(ledger, "logs", logs)
    done = Status("one", APP, State.DONE, None, None, None, None, None, lines=1)
    (event,) = [event async for event in following(done, ledger, True)]
    assert json.loads(event.removeprefix("data: "))["logs"][0]["message"] == "line"


async def test_the_stream_of_a_deleted_request_ends(ledger: SqlLedger) -> None:
    gone = Status("gone", APP, State.RUNNING, None, None, None, None, None)
    events = [event async for event in following(gone, ledger)]
    assert len(events) == 1


async def test_a_listener_that_leaves_stops_the_reading(server: str) -> None:
    async def looks() -> bool:
        return any(task.get_name().startswith("watching") for task in asyncio.all_tasks())

    async def does_not_look() -> bool:
        return not await looks()

    async with httpx2.AsyncClient() as client:
        request_id = await submitted(client, server)
        async with client.stream("GET", f"{server}/queue/{FAST}/requests/{request_id}/status/stream") as answer:
            async for _ in answer.aiter_raw():
                break
            await until(looks)
    await until(does_not_look)


async def test_a_key_holds_no_more_streams_than_it_may(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "STREAMS_OF_A_KEY", 2)
    monkeypatch.setattr(queue, "caller", lambda _: Caller("one", frozenset({Scope.ADMIN})))
    async with httpx2.AsyncClient() as client, AsyncExitStack() as opened:
        address = f"{server}/queue/{FAST}/requests/{await submitted(client, server)}/status/stream"
        held = []  # an iterator that nobody holds closes its answer
        for _ in range(2):
            answer = await opened.enter_async_context(client.stream("GET", address))
            held.append(answer.aiter_raw())
            await anext(held[-1])  # the first event: it is open
        refused = await client.get(address)
        assert (refused.status_code, refused.headers["x-fal-needs-retry"]) == (429, "1")
        await opened.aclose()
        status = 429
        async with asyncio.timeout(10):  # until the server has seen that they are gone
            while status == 429:
                async with client.stream("GET", address) as answer:
                    status = answer.status_code
