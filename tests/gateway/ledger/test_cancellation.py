"""Callers who are cancelled at any moment leave no lock behind, and nothing half written."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from random import Random

import pytest
from sqlalchemy import Connection, and_, exists, func, or_, select

from gateway.keys.base import KeyLimits, Scope
from gateway.keys.sql import SqlKeys
from gateway.ledger.history import SqlHistory, StillInProgress
from gateway.ledger.models import AtOnce, Claim, Idempotency, LogBatch, Outcome, Place, State, Terms, TooMany
from gateway.ledger.outbox import Delivery, SqlOutbox
from gateway.ledger.store import SqlLedger
from gateway.ledger.tables import delivery, log, request, turn
from tests.gateway.ledger.outside import take_all_locks
from tests.gateway.ledger.works import APP, FAULT, OK, Clock, state, work

ROUNDS, CALLERS, CALLS = 4, 10, 100  # 4,000 cancellations
LONGEST_S = 0.01
NO_ANSWER = asyncio.CancelledError, TooMany, StillInProgress


class Chaos:
    """Calls every method with whatever is there. added: submissions that were answered; deleted: tried to be."""

    def __init__(self, ledger: SqlLedger, keys: SqlKeys, clock: Clock, key_id: str) -> None:
        self.ledger, self.keys, self.clock, self.key_id = ledger, keys, clock, key_id
        self.random = Random(1)
        self.serial = 0
        self.claims: list[Claim] = []
        self.taken: list[Delivery] = []
        self.added: set[str] = set()
        self.deleted: set[str] = set()

    def calls(self) -> Mapping[Callable[..., object], Callable[[], Awaitable[object]]]:
        """For every method a call of it."""
        ledger, outbox, history, keys = self.ledger, self.ledger.outbox, self.ledger.history, self.keys
        before = self.clock.now - timedelta(hours=1)
        terms = Terms(idempotency=Idempotency("r1", "body"))
        return {
            SqlLedger.submit: self.submit,
            SqlLedger.repeated: lambda: ledger.repeated(work("x"), terms),
            SqlLedger.claim: self.claim,
            SqlLedger.heartbeat: self.heartbeat,
            SqlLedger.listen: lambda: ledger.listen("here", 60, [*self.added]),
            SqlLedger.abandon: lambda: ledger.abandon(self.name(), "here", Outcome.CANCELLED, FAULT),
            SqlLedger.requeue: lambda: ledger.requeue(self.held()),
            SqlLedger.retry: lambda: ledger.retry(self.held(), FAULT),
            SqlLedger.expire: ledger.expire,
            SqlLedger.running: lambda: ledger.running(self.held()),
            SqlLedger.log: lambda: ledger.log(self.held(), [("INFO", "one"), ("INFO", "two")]),
            SqlLedger.finish: lambda: ledger.finish(self.held(), Outcome.OK, OK, (), [("INFO", "last")]),
            SqlLedger.cancel: lambda: ledger.cancel(self.name(), APP),
            SqlLedger.status: lambda: ledger.status(self.name(), APP),
            SqlLedger.statuses: lambda: ledger.statuses([self.name() for _ in range(5)]),
            SqlLedger.logs: lambda: ledger.logs(self.name()),
            SqlLedger.answer: lambda: ledger.answer(self.name(), APP),
            SqlLedger.waits: ledger.waits,
            SqlLedger.depth: ledger.depth,
            SqlLedger.demand: lambda: ledger.demand(0),
            SqlOutbox.claim: self.take_deliveries,
            SqlOutbox.delivered: lambda: outbox.delivered(self.delivery()),
            SqlOutbox.failed: lambda: outbox.failed(self.delivery(), "Status 500", 1),
            SqlOutbox.postpone: lambda: outbox.postpone(self.taken[-3:], 1),
            SqlOutbox.of: lambda: outbox.of(self.name()),
            SqlHistory.list: history.list,
            SqlHistory.show: lambda: history.show(self.name()),
            SqlHistory.delete: self.delete,
            SqlHistory.retire: lambda: history.retire(before),
            SqlHistory.forget: lambda: history.forget(self.clock.now, 3),
            SqlKeys.create: lambda: keys.create("app", {Scope.RUN}, KeyLimits(concurrency=1)),
            SqlKeys.check: lambda: keys.check(f"{self.key_id}:{'x' * 43}"),
            SqlKeys.find: lambda: keys.find(self.key_id),
            SqlKeys.all: keys.all,
            SqlKeys.rotate: lambda: keys.rotate(self.key_id, timedelta(hours=1)),
            SqlKeys.revoke: lambda: keys.revoke("unknown"),
            SqlKeys.at_once: keys.at_once,
            SqlKeys.reserve: lambda: keys.reserve(self.key_id, 1),
            SqlKeys.refund: lambda: keys.refund(self.key_id, 1),
            SqlKeys.used: lambda: keys.used(self.key_id),
        }

    def name(self) -> str:
        return f"r{self.random.randint(1, self.serial + 1)}"

    def held(self) -> Claim:
        return self.random.choice(self.claims) if self.claims else Claim(work("r1"), "one", 1)

    def delivery(self) -> Delivery:
        return self.random.choice(self.taken) if self.taken else Delivery(1, "r1", "", APP, "", Outcome.OK, OK, "s", 1)

    async def submit(self) -> None:
        self.serial += 1
        name = f"r{self.serial}"
        terms = Terms(
            key=self.random.choice(["k1", "k2", "k3"]),
            listener=self.random.choice([None, "here"]),
            webhook=self.random.choice([None, "https://example.com/hook"]),
            idempotency=Idempotency(name, "body"),
            store_io=self.random.random() < 0.5,
        )
        place = self.random.choice([None, Place("one", self.random.choice([-1, 60]), AtOnce(default=20))])
        accepted = await self.ledger.submit(work(name), APP, terms, place)
        self.added.add(name)
        if accepted.claim is not None:
            self.claims.append(accepted.claim)

    async def claim(self) -> None:
        lease_s = self.random.choice([-1, 60])
        self.claims += await self.ledger.claim("one", 2, lease_s, AtOnce(default=20))

    async def heartbeat(self) -> None:
        await self.ledger.heartbeat("one", 60, [LogBatch(claim, [("INFO", "beat")]) for claim in self.claims[-5:]])

    async def take_deliveries(self) -> None:
        self.taken += await self.ledger.outbox.claim("sender", 2, 60)

    async def delete(self) -> None:
        name = self.name()
        self.deleted.add(name)
        await self.ledger.history.delete(name)

    async def cut_short(self) -> bool:
        """Call something and cancel it at some moment; whether it was before the call's end."""
        often = [self.submit, self.claim] * 4
        call = asyncio.ensure_future(self.random.choice([*self.calls().values(), *often])())
        moment = self.random.random()
        if moment < 0.9:
            await asyncio.sleep(0 if moment < 0.2 else self.random.uniform(0, LONGEST_S))
        call.cancel()
        (outcome,) = await asyncio.gather(call, return_exceptions=True)
        assert not isinstance(outcome, BaseException) or isinstance(outcome, NO_ANSWER), repr(outcome)
        return isinstance(outcome, asyncio.CancelledError)


def half_written(connection: Connection) -> list[str]:
    """The ids of requests that are not as one transaction leaves them."""
    lines = select(func.count()).select_from(log).where(log.c.request_seq == request.c.seq).scalar_subquery()
    owes = exists().where(delivery.c.request_seq == request.c.seq)
    its_turn = exists().where(turn.c.key == request.c.key, turn.c.priority == request.c.priority)
    claimed = exists().where(turn.c.key == request.c.key, turn.c.claimed >= request.c.turn)
    held = request.c.state.in_((State.CLAIMED, State.RUNNING))
    done = request.c.state == State.DONE
    wrong = or_(
        request.c.lines != lines,
        ~its_turn,
        and_(held, or_(request.c.owner.is_(None), request.c.lease_until.is_(None), request.c.attempt == 0, ~claimed)),
        and_(done, or_(request.c.outcome.is_(None), request.c.answer_body.is_(None), request.c.finished_at.is_(None))),
        owes != and_(done, request.c.webhook.is_not(None)),
    )
    return list(connection.execute(select(request.c.id).where(wrong)).scalars())


@pytest.fixture
async def chaos(ledger: SqlLedger, clock: Clock) -> Chaos:
    keys = SqlKeys(ledger.database, clock)
    issued = await keys.create("app", {Scope.RUN}, KeyLimits())
    chaos = Chaos(ledger, keys, clock, issued.key.id)
    for _ in range(20):
        await chaos.submit()
    for _ in range(5):
        await chaos.claim()
    return chaos


async def test_callers_who_are_cancelled_lock_nobody_out_and_write_all_or_nothing(chaos: Chaos, url: str) -> None:
    async def caller() -> int:
        return sum([await chaos.cut_short() for _ in range(CALLS)])

    for _ in range(ROUNDS):
        cut = sum(await asyncio.gather(*(caller() for _ in range(CALLERS))))
        assert cut > CALLERS * CALLS / 10
        await take_all_locks(url)
        chaos.clock.turn(1)

    ledger = chaos.ledger
    assert await ledger.database.read(half_written) == []
    there = await ledger.statuses(list(chaos.added))
    assert chaos.added - set(there) <= chaos.deleted
    await ledger.submit(work("last"), APP, Terms(key="k4"))
    last = next(claim for claim in await ledger.claim("one", 10_000, 60) if claim.work.request_id == "last")
    assert await ledger.finish(last, Outcome.OK, OK)
    assert await state(ledger, "last") == (State.DONE, Outcome.OK)


async def test_every_method_is_among_them(chaos: Chaos) -> None:
    stores = (SqlLedger, SqlOutbox, SqlHistory, SqlKeys)
    methods = {call for store in stores for name, call in vars(store).items() if inspect.iscoroutinefunction(call)}
    public = {call for call in methods if not call.__name__.startswith("_") and call.__name__ != "close"}
    assert set(chaos.calls()) == public
