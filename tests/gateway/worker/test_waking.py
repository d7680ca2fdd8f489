"""Nothing ticks: what is submitted, frees a place or changes is acted on at once, with every tick a minute long."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.ledger.models import AtOnce, Claim, Outcome, Place, State, Terms
from gateway.ledger.store import SqlLedger
from gateway.settings import GatewaySettings
from gateway.worker.dispatcher import DispatchLoop
from gateway.worker.events import Broadcast, Ended, Waker
from tests.gateway.fakes import FakeRunner, LocalDispatcher, until, work
from tests.gateway.worker.test_dispatcher import APP, status_of, submit, until_state

LISTENER = Terms(listener="gateway")


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    return settings.model_copy(update={"tick_s": 60.0, "beat_s": 60.0, "capacity": 1})


@asynccontextmanager
async def dispatching(
    ledger: SqlLedger,
    runner: FakeRunner,
    settings: GatewaySettings,
    broadcast: Broadcast | None = None,
    at_once: Callable[[], Awaitable[AtOnce]] | None = None,
    on_end: Callable[[], None] | None = None,
) -> AsyncIterator[DispatchLoop]:
    """One that has had its first look, so that only a call wakes it."""
    one = DispatchLoop(
        ledger, runner, settings, "dispatcher", lambda: settings.capacity, at_once, broadcast, on_end=on_end
    )
    looked = asyncio.Event()
    waits = ledger.waits

    async def noted() -> bool:
        found = await waits()
        looked.set()
        return found

    ledger.waits = noted  # type: ignore[method-assign]
    task = asyncio.create_task(one.run())
    await asyncio.wait_for(looked.wait(), 30)
    try:
        yield one
    finally:
        await one.stop()
        await asyncio.wait_for(task, 30)


async def test_what_is_submitted_is_drawn_when_it_is_told(ledger: SqlLedger, settings: GatewaySettings) -> None:
    async with dispatching(ledger, FakeRunner(), settings) as one:
        await submit(ledger, "a")
        one.wake()
        await until_state(ledger, "a", State.DONE)


async def test_a_place_that_becomes_free_is_taken_at_once(ledger: SqlLedger, settings: GatewaySettings) -> None:
    async with dispatching(ledger, FakeRunner(), settings) as one:
        await submit(ledger, "a", "b", "c")
        one.wake()
        await until_state(ledger, "c", State.DONE)


async def test_every_end_is_told_to_who_owes_webhooks(ledger: SqlLedger, settings: GatewaySettings) -> None:
    ends: list[None] = []
    async with dispatching(ledger, FakeRunner(), settings, on_end=lambda: ends.append(None)) as one:
        await submit(ledger, "a", "b")
        one.wake()
        await until_state(ledger, "b", State.DONE)

        async def told() -> bool:
            return len(ends) == 2

        await until(told)


async def test_who_watches_hears_of_each_change_that_the_ledger_holds(
    ledger: SqlLedger, settings: GatewaySettings
) -> None:
    broadcast, runner = Broadcast(), FakeRunner(steps=1, pause_s=0.3)
    runner.gate.clear()
    async with dispatching(ledger, runner, settings, broadcast) as one:
        assert await broadcast.watch("g") is None  # new here: anything may have changed
        await submit(ledger, "a")
        one.wake()
        runner.gate.set()
        seen = set()
        while State.DONE not in seen:
            assert await broadcast.watch("g", 30) == {"a"}
            seen.add((await status_of(ledger, "a")).state)
        assert State.RUNNING in seen


def place_of(one: DispatchLoop) -> Place | None:
    places = one.free_places()
    return None if places is None else Place(places.owner, places.lease_s, AtOnce(places.of_key))


async def test_a_run_with_a_place_begins_without_a_look(ledger: SqlLedger, settings: GatewaySettings) -> None:
    async with dispatching(ledger, FakeRunner(), settings) as one:
        accepted = await ledger.submit(work("a"), APP, LISTENER, place_of(one))
        assert (await status_of(ledger, "a")).state is State.RUNNING
        assert isinstance(accepted.claim, Claim)
        await one.submitted("a", accepted.claim)
        await until_state(ledger, "a", State.DONE)


async def test_the_end_of_a_run_is_told_as_the_ledger_has_it(ledger: SqlLedger, settings: GatewaySettings) -> None:
    broadcast = Broadcast()
    broadcast.follow("g", 1, {"a": False})
    async with dispatching(ledger, FakeRunner(), settings, broadcast) as one:
        accepted = await ledger.submit(work("a"), APP, LISTENER, place_of(one))
        await one.submitted("a", accepted.claim)
        ((_, ended),) = await broadcast.events("g", 30)
        assert isinstance(ended, Ended)
        assert ended.answer is not None
        assert ended.answer == await ledger.answer("a", APP)


async def test_who_comes_when_all_places_are_taken_is_put_back_and_drawn_in_turn(
    ledger: SqlLedger, settings: GatewaySettings
) -> None:
    runner = FakeRunner()
    async with dispatching(ledger, runner, settings) as one:
        place = place_of(one)
        for name in ("a", "b"):  # two gateways give the only place to what they submit
            accepted = await ledger.submit(work(name), APP, LISTENER, place)
            await one.submitted(name, accepted.claim)
        assert one.free_places() is None
        await until_state(ledger, "b", State.DONE)
    assert runner.ids == ["a", "b"]
    assert (await status_of(ledger, "b")).outcome is Outcome.OK


async def test_there_is_no_room_while_others_are_let_in(ledger: SqlLedger, settings: GatewaySettings) -> None:
    async with dispatching(ledger, FakeRunner(), settings) as one:
        await submit(ledger, "a")
        one.wake()
        assert one.free_places() is None


async def test_a_run_with_a_place_waits_while_the_stores_are_away(ledger: SqlLedger, settings: GatewaySettings) -> None:
    async def away() -> bool:
        return False

    async with dispatching(ledger, FakeRunner(), settings) as one:
        one._may_begin = away
        accepted = await ledger.submit(work("a"), APP, LISTENER, place_of(one))
        await one.submitted("a", accepted.claim)
        await until_state(ledger, "a", State.QUEUED)


async def test_a_claim_of_the_dispatcher_before_is_put_back_and_drawn(
    ledger: SqlLedger, settings: GatewaySettings
) -> None:
    accepted = await ledger.submit(work("a"), APP, LISTENER, Place("before", 60))
    runner = FakeRunner()
    async with dispatching(ledger, runner, settings) as one:
        await one.submitted("a", accepted.claim)
        await until_state(ledger, "a", State.DONE)
    assert (await status_of(ledger, "a")).outcome is Outcome.OK


async def test_a_claim_that_comes_late_stops_no_newer_attempt(ledger: SqlLedger, settings: GatewaySettings) -> None:
    runner = FakeRunner()
    runner.gate.clear()
    async with dispatching(ledger, runner, settings) as one:
        accepted = await ledger.submit(work("a"), APP, LISTENER, place_of(one))
        claim = accepted.claim
        assert claim is not None
        await ledger.requeue(claim)
        one.wake()
        await until(runner.begun)
        await one.submitted("a", claim)
        runner.gate.set()
        await until_state(ledger, "a", State.DONE)
    assert (await status_of(ledger, "a")).outcome is Outcome.OK


async def test_a_run_that_is_cancelled_is_told_to_who_listens_and_who_watches(
    ledger: SqlLedger, settings: GatewaySettings
) -> None:
    broadcast, ends = Broadcast(), 0

    def ended() -> None:
        nonlocal ends
        ends += 1

    async with dispatching(ledger, FakeRunner(pause_s=60), settings, broadcast, on_end=ended) as one:
        broadcast.follow("g", 1, {"a": False})
        await submit(ledger, "a")
        one.wake()
        await until_state(ledger, "a", State.RUNNING)
        await broadcast.watch("g")
        await ledger.cancel("a", APP)
        one.hear("a")
        assert await broadcast.events("g", 30) == [("a", Ended())]
        assert (await status_of(ledger, "a")).state is State.DONE
        assert await broadcast.watch("g", 30) == {"a"}
        assert ends == 2  # what was cancelled, and that it has ended


async def test_who_cancels_elsewhere_is_heard_by_who_watches(ledger: SqlLedger, settings: GatewaySettings) -> None:
    broadcast = Broadcast()
    async with dispatching(ledger, FakeRunner(), settings, broadcast) as one:
        await broadcast.watch("g")
        one.hear("a")
        assert await broadcast.watch("g", 30) == {"a"}


async def test_where_others_wait_a_run_takes_its_turn_behind_them(ledger: SqlLedger, settings: GatewaySettings) -> None:
    runner = FakeRunner()
    async with dispatching(ledger, runner, settings) as one:
        place = place_of(one)
        await submit(ledger, "a")
        accepted = await ledger.submit(work("b"), APP, LISTENER, place)
        assert accepted.claim is None
        await one.submitted("b", accepted.claim)
        await until_state(ledger, "b", State.DONE)
    assert runner.ids == ["a", "b"]


async def test_a_run_whose_dispatcher_stops_meanwhile_waits_again(ledger: SqlLedger, settings: GatewaySettings) -> None:
    async with dispatching(ledger, FakeRunner(), settings) as one:
        accepted = await ledger.submit(work("a"), APP, LISTENER, place_of(one))
        stopping = asyncio.create_task(one.stop())
        await asyncio.sleep(0)
        await one.submitted("a", accepted.claim)
        await until_state(ledger, "a", State.QUEUED)
        await stopping


async def test_submits_at_once_share_a_call() -> None:
    calls: list[None] = []

    class Counting(LocalDispatcher):
        async def wake(self) -> None:
            calls.append(None)
            await asyncio.sleep(0.01)

    waker = Waker(Counting())
    for _ in range(100):
        waker.wake()

    async def settled() -> bool:
        return waker._waking is not None and waker._waking.done()

    await until(settled)
    assert len(calls) == 1
    waker.wake()
    await asyncio.sleep(0)
    for _ in range(100):
        waker.wake()
    await until(settled)
    assert len(calls) == 3
