"""What the dispatcher tells of a request: a line for each transition, with the request's context, and its counts."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway.endpoints import app_of
from gateway.errors import PlatformError, StoreUnavailable
from gateway.ledger.models import LeaseRenewal
from gateway.ledger.store import SqlLedger
from gateway.monitoring.contract import BEATS, REQUEUED, STORE_ERRORS, WAIT
from gateway.monitoring.trace import followed
from gateway.settings import GatewaySettings
from gateway.work import Event, Work
from gateway.worker import executor
from gateway.worker.dispatcher import DispatchLoop
from gateway.worker.events import Broadcast, Ended, RunEvent
from tests.gateway.fakes import FAST, FakeRunner, until, work
from tests.gateway.monitors import RememberingMonitor

APP = app_of(FAST)
Told = Callable[[str], list[str]]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    """The transitions of a request that were logged with its context."""
    seen: list[tuple[str, str]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            trace = followed()
            assert trace is not None
            assert trace.endpoint == FAST
            seen.append((trace.request_id, f"{vars(record)['transition']} {trace.attempt}"))

    logger = logging.getLogger("fooocus.requests")
    caplog.set_level(logging.INFO, logger.name)
    handler = Handler()
    logger.addHandler(handler)
    yield lambda name: [what for whose, what in seen if whose == name]  # type: ignore[misc]
    logger.removeHandler(handler)


async def drawn(
    ledger: SqlLedger, runner: FakeRunner, settings: GatewaySettings, told: Told, *names: str
) -> RememberingMonitor:
    """The monitor of a dispatcher that has drawn them, and said so."""
    monitor = RememberingMonitor()
    loop = DispatchLoop(ledger, runner, settings, "me", lambda: 8, monitor=monitor)
    for name in names:
        await ledger.submit(work(name), APP)
    task = asyncio.create_task(loop.run())

    async def over() -> bool:
        return all(what.startswith("ended") for name in names for what in told(name)[-1:] or [""])

    await until(over)
    await loop.stop()
    await task
    return monitor


async def test_each_request_has_a_line_a_transition_and_its_wait(
    ledger: SqlLedger, settings: GatewaySettings, told: Told
) -> None:
    monitor = await drawn(ledger, FakeRunner(), settings, told, "a", "b")
    for name in ("a", "b"):
        assert told(name) == ["claimed 1", "running 1", "delivered 1", "ended 1"]
    assert len(monitor.observed(WAIT, endpoint=FAST, priority="normal")) == 2
    assert [(name, trace.request_id) for name, trace, _ in monitor.spans] == [("queue", "a"), ("queue", "b")]
    assert monitor.count(BEATS) >= 1


async def test_a_beat_that_finds_an_end_written_takes_nothing_from_what_is_told(
    ledger: SqlLedger, settings: GatewaySettings, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim is no longer held, and whoever wrote the end has not heard that it is written."""
    holds(monkeypatch, ledger, "finish")
    await drawn(ledger, FakeRunner(), settings, told, "a")
    assert told("a") == ["claimed 1", "running 1", "delivered 1", "ended 1"]


@pytest.mark.parametrize(
    ("fault", "call"),
    [
        (PlatformError("runner_disconnected", "gone"), "retry"),
        (StoreUnavailable("files"), "requeue"),
        (StoreUnavailable("files"), "answer"),  # by which whoever requeued a request learns whether it has ended
    ],
)
async def test_a_beat_that_finds_a_request_put_back_ends_nothing(
    ledger: SqlLedger,
    settings: GatewaySettings,
    told: Told,
    fault: PlatformError,
    call: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(executor, "FIRST_PAUSE_S", 0.0)
    holds(monkeypatch, ledger, call)
    ended: list[RunEvent] = []
    real = Broadcast.publish

    def publish(self: Broadcast, name: str, event: RunEvent) -> None:
        real(self, name, event)
        ended.extend([event] if isinstance(event, Ended) else [])

    monkeypatch.setattr(Broadcast, "publish", publish)
    runner = OnceLost(fault)
    runner.pause_s = 0.1  # there are beats only while something is drawn
    await drawn(ledger, runner, settings, told, "a")
    assert told("a")[-1] == "ended 2"
    assert [event.answer is None for event in ended if isinstance(event, Ended)] == [False]  # once, by its answer


def holds(monkeypatch: pytest.MonkeyPatch, ledger: SqlLedger, call: str) -> None:
    """Let a call of the ledger return only after two beats that began once it was done."""
    real, heartbeat = getattr(ledger, call), ledger.heartbeat
    begun = over = 0

    async def beating(*args: Any) -> LeaseRenewal:
        nonlocal begun, over
        begun += 1
        heard = await heartbeat(*args)
        over += 1
        return heard

    async def held(*args: Any, **more: Any) -> object:
        found = await real(*args, **more)
        since = begun

        async def two() -> bool:
            return over >= since + 2

        await until(two)
        return found

    monkeypatch.setattr(ledger, "heartbeat", beating)
    monkeypatch.setattr(ledger, call, held)


class OnceLost(FakeRunner):
    """Its first run meets a fault."""

    def __init__(self, fault: PlatformError) -> None:
        super().__init__()
        self._fault: PlatformError | None = fault

    async def run(self, work: Work, previews: bool = False) -> AsyncIterator[Event]:
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault
        async for event in super().run(work, previews):
            yield event


@pytest.mark.parametrize(
    ("fault", "away"), [(PlatformError("runner_disconnected", "gone"), 0), (StoreUnavailable("files"), 1)]
)
async def test_a_request_that_is_queued_again_is_told_with_its_attempts(
    ledger: SqlLedger,
    settings: GatewaySettings,
    told: Told,
    fault: PlatformError,
    away: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(executor, "FIRST_PAUSE_S", 0.0)
    monitor = await drawn(ledger, OnceLost(fault), settings, told, "a")
    assert told("a") == ["claimed 1", "requeued 1", "claimed 2", "running 2", "delivered 2", "ended 2"]
    assert monitor.count(REQUEUED, endpoint=FAST) == 1
    assert monitor.count(STORE_ERRORS, store="files") == away
