"""The dispatcher's loop over a runner that takes places at replicas."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from gateway.ledger.models import AtOnce, Outcome, Place, Priority, State, Terms
from gateway.ledger.store import SqlLedger
from gateway.settings import GatewaySettings
from gateway.work import Event, Step, Waits, Work
from gateway.worker.capacity import ReplicaRegistry
from gateway.worker.dispatcher import DispatchLoop
from gateway.worker.places import Places
from gateway.worker.placing import Wanted
from tests.gateway.fakes import finished, until, work
from tests.gateway.worker.test_dispatcher import APP, status_of, submit, until_state


class Placed:
    """A runner whose works take a place of two rows each, and then what the gate lets through."""

    def __init__(self, places: Places) -> None:
        self._places, self.rows = places, 2
        self.gate = asyncio.Event()
        self.drawn: list[str] = []

    async def run(self, work: Work, previews: bool = False) -> AsyncIterator[Event]:
        ticket = self._places.ask(work.request_id, Wanted(self.rows), work.delivery.owner)
        try:
            if not ticket.replica:
                yield Waits()
            await ticket.placed()
            self.drawn.append(work.request_id)
            yield Step(0, 1)
            await self.gate.wait()
            yield finished(work)
        finally:
            self._places.give_back(ticket)


@asynccontextmanager
async def placing(
    ledger: SqlLedger, settings: GatewaySettings, at_once: AtOnce | None = None
) -> AsyncIterator[tuple[DispatchLoop, ReplicaRegistry, Places, Placed]]:
    replicas = ReplicaRegistry()
    places = Places(replicas, look_ahead=2, most=100)
    runner = Placed(places)
    asks = None if at_once is None else partial(asyncio.sleep, 0, at_once)
    loop = DispatchLoop(ledger, runner, settings, "dispatcher", places.capacity, asks, places=places)
    task = asyncio.create_task(loop.run())
    try:
        yield loop, replicas, places, runner
    finally:
        await loop.stop(0)
        await asyncio.wait_for(task, 30)


async def test_a_key_whose_large_requests_fill_all_does_not_keep_another_from_beginning(
    ledger: SqlLedger, settings: GatewaySettings
) -> None:
    def of_key(name: str, key: str) -> Work:
        plain = work(name)
        return plain.model_copy(update={"delivery": plain.delivery.model_copy(update={"owner": key})})

    async with placing(ledger, settings, AtOnce(50)) as (loop, replicas, _, runner):
        replicas.report("one", 16)
        runner.rows = 32  # more than a replica has, and than the dispatcher takes them for
        for number in range(40):
            await ledger.submit(of_key(f"many-{number}", "many"), APP, Terms(key="many"))
        loop.wake()

        async def full() -> bool:
            return bool(runner.drawn)

        await until(full)
        await ledger.submit(of_key("other", "other"), APP, Terms(key="other", priority=Priority.LOW))
        loop.wake()

        async def begun() -> bool:
            return "other" in runner.drawn

        await until(begun)
        assert runner.drawn == ["many-0", "other"]
        # the key that has some gets none more for it: as many as it was taken for at first
        assert (await status_of(ledger, "many-12")).state is State.QUEUED


async def test_a_run_with_a_place_that_was_taken_meanwhile_waits_in_the_queue(
    ledger: SqlLedger, settings: GatewaySettings
) -> None:
    async with placing(ledger, settings) as (loop, replicas, _, runner):
        replicas.report("one", 2)
        await submit(ledger, "a")
        loop.wake()
        await until_state(ledger, "a", State.RUNNING)
        taken = Place("dispatcher", 30)
        accepted = await ledger.submit(work("b"), APP, place=taken)
        assert accepted.claim is not None
        await loop.submitted("b", accepted.claim)
        await until_state(ledger, "b", State.CLAIMED)  # as one that waits for its turn
        assert runner.drawn == ["a"]
        runner.gate.set()
        await until_state(ledger, "b", State.DONE)


async def test_what_waits_for_a_replica_to_come_is_in_the_queue_and_costs_no_attempt(
    ledger: SqlLedger, settings: GatewaySettings
) -> None:
    await submit(ledger, *"abcd")
    hasty = settings.model_copy(update={"run_timeout_s": 1.5, "lease_s": 1.5, "beat_s": 0.05})
    async with placing(ledger, hasty) as (loop, replicas, places, runner):
        await until_state(ledger, "b", State.CLAIMED)
        await asyncio.sleep(1.8)  # longer than a run may take, and than a lease that nobody keeps
        assert [(await status_of(ledger, name)).state for name in "abcd"] == [State.CLAIMED] * 2 + [State.QUEUED] * 2
        assert loop.free_places() is None
        replicas.report("one", 16)
        places.place()
        loop.wake()
        runner.gate.set()
        for name in "abcd":
            await until_state(ledger, name, State.DONE)
            record = await ledger.history.show(name)
            assert record is not None
            assert (record.entry.outcome, record.entry.attempts) == (Outcome.OK, 1)
    assert runner.drawn == [*"abcd"]


async def test_more_is_claimed_as_places_are_given_back(ledger: SqlLedger, settings: GatewaySettings) -> None:
    await submit(ledger, *"abcdefgh")
    async with placing(ledger, settings) as (_, replicas, places, runner):
        replicas.report("one", 4)
        places.place()
        await until_state(ledger, "b", State.RUNNING)
        await until_state(ledger, "d", State.CLAIMED)
        assert (await status_of(ledger, "e")).state is State.QUEUED
        assert runner.drawn == ["a", "b"]
        runner.gate.set()
        await until_state(ledger, "h", State.DONE)
    assert runner.drawn == [*"abcdefgh"]


async def test_a_request_that_is_cancelled_while_it_waits_waits_no_more(
    ledger: SqlLedger, settings: GatewaySettings
) -> None:
    await submit(ledger, "a", "b")
    async with placing(ledger, settings) as (_, replicas, places, runner):
        await until_state(ledger, "b", State.CLAIMED)
        await ledger.cancel("a", APP)
        await until_state(ledger, "a", State.DONE)
        replicas.report("one", 4)
        places.place()
        runner.gate.set()
        await until_state(ledger, "b", State.DONE)
    assert runner.drawn == ["b"]
