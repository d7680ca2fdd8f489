"""The dispatcher's loop on a real ledger: claims, capacity, cancellation, failures, stopping."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway import retries
from gateway.endpoints import app_of
from gateway.errors import ModelError, PlatformError, StoreUnavailable
from gateway.ledger.database import Database
from gateway.ledger.models import Answer, CancelAnswer, Claim, Limits, Outcome, State, Status
from gateway.ledger.store import SqlLedger
from gateway.ledger.transitions import Lines
from gateway.settings import GatewaySettings
from gateway.work import Event, Runner, Work
from gateway.worker.dispatcher import DispatchLoop
from gateway.worker.events import Broadcast, Stopping
from tests.gateway.fakes import FAST, FakeRunner, until, work

APP = app_of(FAST)


@asynccontextmanager
async def dispatching(
    ledger: SqlLedger, runner: Runner, settings: GatewaySettings, owner: str = "dispatcher"
) -> AsyncIterator[DispatchLoop]:
    one = DispatchLoop(ledger, runner, settings, owner, lambda: settings.capacity)
    task = asyncio.create_task(one.run())
    try:
        yield one
    finally:
        await one.stop()
        await asyncio.wait_for(task, 30)


async def status_of(ledger: SqlLedger, name: str) -> Status:
    status = await ledger.status(name, APP)
    assert status is not None
    return status


async def until_state(ledger: SqlLedger, name: str, state: State) -> None:
    async def reached() -> bool:
        return (await status_of(ledger, name)).state is state

    await until(reached)


async def submit(ledger: SqlLedger, *names: str) -> None:
    for name in names:
        await ledger.submit(work(name, prompt=name), APP)


async def test_what_waits_is_drawn_oldest_first(ledger: SqlLedger, settings: GatewaySettings) -> None:
    await submit(ledger, "a", "b", "c")
    runner = FakeRunner()
    async with dispatching(ledger, runner, settings.model_copy(update={"capacity": 1})):
        await until_state(ledger, "c", State.DONE)
    assert runner.ids == ["a", "b", "c"]
    assert (await status_of(ledger, "a")).outcome is Outcome.OK


async def test_no_more_is_held_than_the_capacity(ledger: SqlLedger, settings: GatewaySettings) -> None:
    await submit(ledger, *"abcde")
    runner = FakeRunner(pause_s=0.02)
    async with dispatching(ledger, runner, settings.model_copy(update={"capacity": 2})):
        await until_state(ledger, "e", State.DONE)
    assert (runner.ids, runner.most_at_once) == ([*"abcde"], 2)


async def test_the_failure_of_one_request_is_its_own(ledger: SqlLedger, settings: GatewaySettings) -> None:
    await submit(ledger, "bad", "worse", "good")
    runner = FakeRunner()
    runner.faults = {"bad": ModelError("image_load_error", "Broken."), "worse": RuntimeError("bug")}
    async with dispatching(ledger, runner, settings):
        for name in ("bad", "worse", "good"):
            await until_state(ledger, name, State.DONE)
    assert (await status_of(ledger, "bad")).error_type == "image_load_error"
    assert (await status_of(ledger, "worse")).error_type == "internal_error"
    assert (await status_of(ledger, "good")).outcome is Outcome.OK


async def test_a_running_request_that_somebody_cancels_ends(ledger: SqlLedger, settings: GatewaySettings) -> None:
    await submit(ledger, "a")
    runner = FakeRunner(pause_s=60)
    async with dispatching(ledger, runner, settings):
        await until_state(ledger, "a", State.RUNNING)
        assert await ledger.cancel("a", APP) is CancelAnswer.REQUESTED
        await until_state(ledger, "a", State.DONE)
    assert (await status_of(ledger, "a")).error_type == "client_cancelled"
    assert runner.left == ["a"]


async def test_a_long_run_keeps_its_lease(ledger: SqlLedger, settings: GatewaySettings) -> None:
    await submit(ledger, "a")
    runner = FakeRunner(steps=3, pause_s=1.0)
    async with dispatching(ledger, runner, settings.model_copy(update={"lease_s": 2.0})):
        await until_state(ledger, "a", State.DONE)
    assert runner.ids == ["a"]
    assert (await status_of(ledger, "a")).outcome is Outcome.OK


async def test_a_lost_owners_request_is_drawn_by_another(ledger: SqlLedger, settings: GatewaySettings) -> None:
    await submit(ledger, "a")
    await ledger.claim("lost", 1, 0.1)
    async with dispatching(ledger, FakeRunner(), settings.model_copy(update={"lease_s": 0.3})):
        await until_state(ledger, "a", State.DONE)
    assert (await status_of(ledger, "a")).outcome is Outcome.OK


async def test_a_ledger_that_fails_for_a_moment_does_not_end_the_loop(
    ledger: SqlLedger, settings: GatewaySettings, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(SqlLedger):
        failures = 2

        async def waits(self) -> bool:
            if Failing.failures:
                Failing.failures -= 1
                raise OSError("disk")
            return await super().waits()

    await submit(ledger, "a")
    async with dispatching(Failing(ledger.database), FakeRunner(), settings):
        await until_state(ledger, "a", State.DONE)
    assert Failing.failures == 0
    assert "tries again" in caplog.text


async def test_a_request_whose_end_cannot_be_written_is_drawn_again(
    ledger: SqlLedger, settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(SqlLedger):
        failures = 1

        async def finish(
            self, claim: Claim, outcome: Outcome, answer: Answer, media: Sequence[str] = (), lines: Lines = ()
        ) -> bool:
            if Failing.failures:
                Failing.failures -= 1
                raise OSError("disk")
            return await super().finish(claim, outcome, answer, media, lines)

    monkeypatch.setattr(retries, "PAUSES_S", ())
    await submit(ledger, "a")
    runner = FakeRunner()
    long = settings.model_copy(update={"lease_s": 600})  # so that no expiry brings it back
    async with dispatching(Failing(ledger.database), runner, long):
        await until_state(ledger, "a", State.DONE)
    assert runner.ids == ["a", "a"]


async def test_a_request_whose_end_can_never_be_written_is_given_up(
    settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(SqlLedger):
        async def finish(
            self, claim: Claim, outcome: Outcome, answer: Answer, media: Sequence[str] = (), lines: Lines = ()
        ) -> bool:
            raise OSError("disk")

    monkeypatch.setattr(retries, "PAUSES_S", ())
    ledger = Failing(await Database.open(settings.ledger_address), limits=Limits(retries=2))
    await submit(ledger, "a")
    runner = FakeRunner()
    async with dispatching(ledger, runner, settings):
        await until_state(ledger, "a", State.DONE)
    assert runner.ids == ["a"] * 3
    assert (await status_of(ledger, "a")).error_type == "internal_error"
    await ledger.close()


async def test_a_stopping_dispatcher_finishes_what_it_can(ledger: SqlLedger, settings: GatewaySettings) -> None:
    await submit(ledger, "a")
    runner = FakeRunner(pause_s=0.05)
    async with dispatching(ledger, runner, settings.model_copy(update={"stop_grace_s": 5})) as one:
        await until_state(ledger, "a", State.RUNNING)
        await one.stop()
        assert (await status_of(ledger, "a")).outcome is Outcome.OK


async def test_a_stopping_dispatcher_puts_back_the_rest_and_claims_nothing(
    ledger: SqlLedger, settings: GatewaySettings
) -> None:
    await submit(ledger, "a")
    runner = FakeRunner(pause_s=60)
    async with dispatching(ledger, runner, settings) as one:
        await until_state(ledger, "a", State.RUNNING)
        stopping = asyncio.create_task(one.stop())
        await asyncio.sleep(0)
        await submit(ledger, "b")
        await stopping
    assert runner.ids == ["a"]
    assert runner.left == ["a"]
    for name in ("a", "b"):
        assert (await status_of(ledger, name)).state is State.QUEUED


async def test_a_dispatcher_that_stops_puts_back_at_once_what_nobody_draws(
    ledger: SqlLedger, settings: GatewaySettings
) -> None:
    long = settings.model_copy(update={"stop_grace_s": 60})
    await submit(ledger, "a")
    drawn, waiting = FakeRunner(steps=300, pause_s=0.02), FakeRunner()
    waiting.gate.clear()

    class Both:
        def run(self, work: Work, previews: bool = False) -> AsyncIterator[Event]:
            return (drawn if work.request_id == "a" else waiting).run(work, previews)

    async with dispatching(ledger, Both(), long) as one:
        await until_state(ledger, "a", State.RUNNING)
        await submit(ledger, "b")
        await until(waiting.begun)
        stopping = asyncio.create_task(one.stop())
        await until_state(ledger, "b", State.QUEUED)
        assert (await status_of(ledger, "a")).state is State.RUNNING
        drawn.steps = 0
        await one.stop(0.1)
        await stopping


async def test_a_fault_while_a_dispatcher_stops_costs_no_attempt(ledger: SqlLedger, settings: GatewaySettings) -> None:
    """The replica that drew was stopped with it."""
    strict = SqlLedger(ledger.database, limits=Limits(retries=0, crashes=1))
    await submit(ledger, "a")
    runner = FakeRunner(pause_s=0.2, steps=3, fault=PlatformError("runner_disconnected", "gone"))
    async with dispatching(strict, runner, settings.model_copy(update={"stop_grace_s": 20})) as one:
        await until_state(ledger, "a", State.RUNNING)
        await one.stop()
    assert (await status_of(ledger, "a")).state is State.QUEUED


async def test_a_runner_that_is_lost_because_the_service_leaves_costs_no_attempt(
    ledger: SqlLedger, settings: GatewaySettings
) -> None:
    """Serve ends the replicas that draw before the dispatcher hears of it."""
    strict = SqlLedger(ledger.database, limits=Limits(retries=0, crashes=1))
    await submit(ledger, "a")
    runner = FakeRunner(fault=PlatformError("runner_disconnected", "gone"))

    async def leaving() -> bool:
        return len(runner.ids) < 3

    one = DispatchLoop(strict, runner, settings, "me", lambda: 8, is_leaving=leaving)
    task = asyncio.create_task(one.run())
    await until_state(ledger, "a", State.DONE)
    assert len(runner.ids) == 3
    await one.stop()
    await task


async def test_nothing_is_claimed_while_a_store_is_away(ledger: SqlLedger, settings: GatewaySettings) -> None:
    well, asked = False, 0

    async def may_begin() -> bool:
        nonlocal asked
        asked += 1
        return well

    async def asked_often() -> bool:
        return asked > 3

    await submit(ledger, "a")
    one = DispatchLoop(ledger, FakeRunner(), settings, "me", lambda: 8, may_begin=may_begin)
    task = asyncio.create_task(one.run())
    await until(asked_often)
    assert (await status_of(ledger, "a")).state is State.QUEUED
    well = True
    await until_state(ledger, "a", State.DONE)
    await one.stop()
    await task


async def test_an_end_waits_for_a_ledger_that_is_away(
    ledger: SqlLedger, settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pictures are drawn: they are not thrown away after a few seconds."""
    monkeypatch.setattr(retries, "PAUSES_S", (0.01, 0.02))
    tries, finish = 0, ledger.finish

    async def away(*arguments: Any) -> bool:
        nonlocal tries
        tries += 1
        if tries < 10:
            raise StoreUnavailable("ledger")
        return await finish(*arguments)

    monkeypatch.setattr(ledger, "finish", away)
    await submit(ledger, "a")
    runner = FakeRunner()
    async with dispatching(ledger, runner, settings):
        await until_state(ledger, "a", State.DONE)
    assert runner.ids == ["a"]
    assert (await status_of(ledger, "a")).outcome is Outcome.OK


async def test_a_dispatcher_that_stops_for_good_says_so(ledger: SqlLedger, settings: GatewaySettings) -> None:
    broadcast = Broadcast()
    broadcast.follow("gateway", 1, {"a": False})
    one = DispatchLoop(ledger, FakeRunner(), settings, "me", lambda: 8, broadcast=broadcast)
    task = asyncio.create_task(one.run())
    await one.stop()
    await task
    assert await broadcast.events("gateway", 0) == []
    await one.stop(for_good=True)
    assert await broadcast.events("gateway", 0) == [("a", Stopping())]


async def test_a_dispatcher_that_is_cancelled_puts_back_what_it_holds(
    ledger: SqlLedger, settings: GatewaySettings
) -> None:
    await submit(ledger, "a")
    task = asyncio.create_task(DispatchLoop(ledger, FakeRunner(pause_s=60), settings, "me", lambda: 8).run())
    await until_state(ledger, "a", State.RUNNING)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await status_of(ledger, "a")).state is State.QUEUED


async def test_two_dispatchers_never_draw_the_same_request(ledger: SqlLedger, settings: GatewaySettings) -> None:
    names: Sequence[str] = [str(number) for number in range(12)]
    await submit(ledger, *names)
    few = settings.model_copy(update={"capacity": 2})
    one, other = FakeRunner(pause_s=0.01), FakeRunner(pause_s=0.01)
    async with dispatching(ledger, one, few, "one"), dispatching(ledger, other, few, "other"):
        for name in names:
            await until_state(ledger, name, State.DONE)
    assert sorted([*one.ids, *other.ids]) == sorted(names)


async def test_a_request_cancelled_before_its_first_step_ends_too(
    ledger: SqlLedger, settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a task writes nothing itself, while heartbeats would hold its row for ever."""
    await submit(ledger, "a")
    create, started = asyncio.create_task, []

    def create_and_cancel(coroutine: Any, **rest: Any) -> asyncio.Task[Any]:
        task = create(coroutine, **rest)
        if coroutine.__name__ == "_execute" and not started:
            started.append(task)
            task.cancel()
        return task

    monkeypatch.setattr("gateway.worker.dispatcher.asyncio.create_task", create_and_cancel)
    runner = FakeRunner()
    async with dispatching(ledger, runner, settings):
        await until_state(ledger, "a", State.DONE)
    assert started
    assert (await status_of(ledger, "a")).outcome is Outcome.OK
