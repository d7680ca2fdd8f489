"""Whatever clients, dispatchers, crashes and the clock do: the ledger does as the model does, and nothing is stuck."""

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete

from gateway.ledger.models import Answer, Claim, Limits, LogBatch, Outcome, Place, Priority, State, Terms, TooMany
from gateway.ledger.outbox import Delivery, DeliveryState
from gateway.ledger.store import SqlLedger
from gateway.ledger.tables import request, turn
from tests.gateway.ledger.model import LEASE_S, Hold, Model
from tests.gateway.ledger.works import APP, FAULT, Clock, work

T = TypeVar("T")

LIMITS = Limits(waiting=12, retries=3, crashes=2, deliveries=3)
OWNERS = st.sampled_from(["one", "two"])
LISTENERS = st.sampled_from(["here", "there"])
MAX_OPEN = 4
HOOK = "https://example.com/hook"


@dataclass
class World:
    """A real ledger with an event loop of its own."""

    url: str
    clock: Clock = field(default_factory=Clock)
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)

    def __post_init__(self) -> None:
        self.ledger = self.do(SqlLedger.open(self.url, self.clock, LIMITS))

    def do(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    async def empty(self) -> None:
        for table in (request, turn):
            await self.ledger.database.write(lambda connection, table=table: connection.execute(delete(table)))

    def close(self) -> None:
        self.do(self.ledger.close())
        self.runner.close()


class Machine(RuleBasedStateMachine):
    """`world` is set by the test."""

    world: World
    names = Bundle("names")
    holds = Bundle("holds")
    deliveries = Bundle("deliveries")

    @initialize()
    def fresh(self) -> None:
        self.do(self.world.empty())
        self.model = Model(LIMITS)
        self.serial = 0
        self.delivered: dict[str, int] = {}

    def do(self, call: Coroutine[Any, Any, T]) -> T:
        return self.world.do(call)

    @property
    def ledger(self) -> SqlLedger:
        return self.world.ledger

    @property
    def now(self) -> Any:
        return self.world.clock.now

    def name(self) -> str:
        self.serial += 1
        return f"r{self.serial}"

    @rule(
        target=names,
        key=st.sampled_from(["k1", "k2"]),
        priority=st.sampled_from([Priority.NORMAL] * 3 + [Priority.LOW]),
        start_within_s=st.sampled_from([None, None, 20.0]),
        webhook=st.sampled_from([None, HOOK]),
        listener=st.sampled_from([None, None, "here", "there"]),
        owner=st.sampled_from([None, None, "one", "two"]),
        count=st.integers(1, 4),
    )
    def submit(
        self,
        key: str,
        priority: Priority,
        start_within_s: float | None,
        webhook: str | None,
        listener: str | None,
        owner: str | None,
        count: int,
    ) -> Any:
        place = None if owner is None else Place(owner, LEASE_S)
        terms = Terms(
            key, priority, start_within_s, webhook=webhook, listener=listener, listen_s=LEASE_S, max_open=MAX_OPEN
        )
        accepted = []
        for _ in range(count):
            name = self.name()
            position = self.model.submit(name, terms, self.now, owner)
            if position is None:
                with pytest.raises(TooMany):
                    self.do(self.ledger.submit(work(name), APP, terms, place))
                continue
            answer = self.do(self.ledger.submit(work(name), APP, terms, place))
            held = [hold for hold in self.model.holds() if hold.name == name]
            assert answer.position == position
            assert [answer.claim] == ([claim_of(hold) for hold in held] or [None])
            accepted.append(name)
        return multiple(*accepted)

    @rule(target=holds)
    def hold(self) -> Any:
        """What was born held is written to as what was claimed is."""
        return multiple(*self.model.holds())

    @rule(listener=LISTENERS)
    def listen(self, listener: str) -> None:
        self.do(self.ledger.listen(listener, LEASE_S, [*self.model.rows]))
        self.model.listen(listener, self.now)

    @rule(name=names, listener=LISTENERS, begun=st.booleans())
    def abandon(self, name: str, listener: str, begun: bool) -> None:
        answer = Answer(504, ["left", name])
        ended = self.do(self.ledger.abandon(name, listener, Outcome.CANCELLED, answer, begun=begun))
        assert ended == self.model.abandon(name, listener, begun, answer)

    @rule(target=holds, owner=OWNERS, count=st.integers(1, 4))
    def claim(self, owner: str, count: int) -> Any:
        claims = self.do(self.ledger.claim(owner, count, LEASE_S))
        holds = [Hold(claim.work.request_id, claim.owner, claim.attempt) for claim in claims]
        assert holds == self.model.claim(owner, count, self.now)
        return multiple(*holds)

    @rule(owner=OWNERS, reported=st.lists(holds, max_size=3, unique=True))
    def heartbeat(self, owner: str, reported: list[Hold]) -> None:
        reports = [LogBatch(claim_of(hold), [("INFO", "beat")]) for hold in reported]
        beat = self.do(self.ledger.heartbeat(owner, LEASE_S, reports))
        assert beat.held == self.model.heartbeat(owner, [(hold, "beat") for hold in reported], self.now)
        assert beat.cancelled == {name for name in beat.held if self.model.rows[name].cancel}

    @rule(hold=holds)
    def running(self, hold: Hold) -> None:
        assert self.do(self.ledger.running(claim_of(hold))) == self.model.running(hold, self.now)

    @rule(hold=holds)
    def log(self, hold: Hold) -> None:
        self.do(self.ledger.log(claim_of(hold), [("INFO", "step")]))
        self.model.log(hold, "step")

    @rule(hold=holds)
    def finish(self, hold: Hold) -> None:
        answer = Answer(200, [hold.name, hold.owner, hold.attempt])
        finished = self.do(self.ledger.finish(claim_of(hold), Outcome.OK, answer, (), [("INFO", "end")]))
        assert finished == self.model.finish(hold, answer, "end")

    @rule(hold=holds, crashed=st.booleans())
    def retry(self, hold: Hold, crashed: bool) -> None:
        became = self.do(self.ledger.retry(claim_of(hold), FAULT, crashed=crashed))
        assert became is self.model.retry(hold, FAULT, crashed, self.now)

    @rule(hold=holds)
    def requeue(self, hold: Hold) -> None:
        assert self.do(self.ledger.requeue(claim_of(hold))) == self.model.requeue(hold, self.now)

    @rule(seconds=st.sampled_from([1.0, 10.0, LEASE_S + 1]))
    def time_passes(self, seconds: float) -> None:
        self.world.clock.turn(seconds)

    @rule()
    def expire(self) -> None:
        assert self.do(self.ledger.expire()) == self.model.expire(self.now)

    @rule(name=names)
    def cancel(self, name: str) -> None:
        assert self.do(self.ledger.cancel(name, APP)) is self.model.cancel(name)

    @rule(target=deliveries)
    def take_webhooks(self) -> Any:
        taken = self.do(self.ledger.outbox.claim("sender", 3, LEASE_S))
        assert all(self.model.rows[one.request_id].terms.webhook == one.url for one in taken)
        return multiple(*taken)

    @rule(one=consumes(deliveries), works=st.booleans())
    def deliver(self, one: Delivery, works: bool) -> None:
        self._told(one)
        if works and self.do(self.ledger.outbox.delivered(one)):
            assert one.request_id not in self.delivered
            self.delivered[one.request_id] = one.attempt
        elif not works:
            self.do(self.ledger.outbox.failed(one, "Status 500", 5.0))

    @invariant()
    def every_request_is_where_the_model_has_it(self) -> None:
        listed = {entry.request_id: entry for entry in self.do(self.ledger.history.list(limit=1000)).entries}
        found = {name: (one.state, one.outcome, one.attempts) for name, one in listed.items()}
        assert found == {row.name: (row.state, row.outcome, row.attempt) for row in self.model.rows.values()}

    @rule()
    def look(self) -> None:
        for name, row in self.model.rows.items():
            status = self.do(self.ledger.status(name, APP))
            assert status is not None
            assert status.position == self.model.position(name)
            assert [entry.message for entry in self.do(self.ledger.logs(name))] == row.lines
            self._answered(name)

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        self.look()
        for _ in range(LIMITS.retries + 2):
            self.world.clock.turn(LEASE_S + 1)
            self.expire()
            for hold in self.model.claim("last", 100, self.now):
                assert self.do(self.ledger.claim("last", 1, LEASE_S))[0].work.request_id == hold.name
                self.finish(hold)
        self.expire()
        assert all(row.state is State.DONE for row in self.model.rows.values()), "something is stuck"
        self.every_request_is_where_the_model_has_it()
        self.look()
        self._send_all()

    def _send_all(self) -> None:
        for _ in range(LIMITS.deliveries + 1):
            self.world.clock.turn(LEASE_S + 1)
            for one in self.do(self.ledger.outbox.claim("sender", 100, LEASE_S)):
                self.deliver(one, works=True)
        for row in self.model.rows.values():
            sent = self.do(self.ledger.outbox.of(row.name))
            assert (sent is not None) == (row.terms.webhook is not None)
            if sent is not None:
                assert sent.state is (
                    DeliveryState.DELIVERED if row.name in self.delivered else DeliveryState.ABANDONED
                )
                assert sent.state is DeliveryState.DELIVERED or sent.attempts == LIMITS.deliveries

    def _told(self, one: Delivery) -> None:
        """A webhook says what the result route says."""
        row = self.model.rows[one.request_id]
        assert row.state is State.DONE
        assert one.outcome is row.outcome
        assert one.answer == self.do(self.ledger.answer(one.request_id, APP))

    def _answered(self, name: str) -> None:
        answer, row = self.do(self.ledger.answer(name, APP)), self.model.rows[name]
        if row.state is not State.DONE:
            assert answer is None
        elif isinstance(row.answer, str):
            assert answer is not None
            assert answer.error_type == row.answer
        else:
            assert answer == row.answer


def claim_of(hold: Hold) -> Claim:
    return Claim(work(hold.name), hold.owner, hold.attempt)


@pytest.fixture
def world(url: str) -> Iterator[World]:
    opened = World(url)
    yield opened
    opened.close()


def test_the_ledger_does_as_the_model_does(world: World) -> None:
    class InWorld(Machine):
        pass

    InWorld.world = world
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    # Shrinking what fails takes minutes: add Phase.shrink here when there is something to shrink.
    bounded = settings(
        max_examples=25,
        stateful_step_count=50,
        phases=[Phase.generate],
        suppress_health_check=checks,
        database=None,
    )
    run_state_machine_as_test(InWorld, settings=bounded)
