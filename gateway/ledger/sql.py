"""The ledger on SQLAlchemy Core: every method one transaction, every write of a holder fenced."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError
from sqlalchemy import ColumnElement, and_, bindparam, case, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import PlatformError
from gateway.ledger.base import (
    Accepted,
    Answer,
    Beat,
    CancelAnswer,
    Claim,
    IdempotencyConflict,
    Limits,
    Load,
    LogEntry,
    Outcome,
    Report,
    Retried,
    State,
    Status,
    Terms,
    TooMany,
)
from gateway.ledger.choosing import choose
from gateway.ledger.database import Database
from gateway.ledger.ending import (
    HELD,
    Fault,
    cancelled_answer,
    end,
    fence,
    late,
    late_answer,
    let_go,
    lost_answer,
    over,
    platform_answer,
    to_let_go,
)
from gateway.ledger.history import SqlHistory
from gateway.ledger.ordering import ORDER, POSITION, next_turn, note_claimed
from gateway.ledger.outbox import SqlOutbox
from gateway.ledger.rows import add, append_lines, start
from gateway.ledger.tables import log, request
from gateway.work import Work

_NO_TERMS = Terms()
_OF_A_RUN = ("key", "start_within_s", "media", "input", "store_io")
_USUAL = Limits()
_NO_LIMITS: Mapping[str, int] = MappingProxyType({})


def utc_now() -> datetime:
    """The time of day that a ledger goes by where no other clock is given."""
    return datetime.now(UTC)


class SqlLedger:
    """`gateway.ledger.base.Ledger` in a database, with its outbox and its history.

    Several processes may hold one each on the same database; their clocks should agree within a fraction of a lease.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime] = utc_now, limits: Limits = _USUAL) -> None:
        self._database, self._clock, self._limits = database, clock, limits
        self.outbox = SqlOutbox(database, clock, limits)
        self.history = SqlHistory(database)

    @classmethod
    async def open(cls, url: str, clock: Callable[[], datetime] = utc_now, limits: Limits = _USUAL) -> "SqlLedger":
        """Open the ledger at `url` (see `Database.open`), creating or migrating it where needed."""
        return cls(await Database.open(url), clock, limits)

    async def submit(self, work: Work, app: str, terms: Terms = _NO_TERMS) -> Accepted:
        async with self._database.submitting() as connection:
            if (known := await _repeated(connection, work, terms)) is not None:
                return known
            await self._admit(connection, terms)
            seq = await add(
                connection,
                work,
                app,
                terms,
                self._clock(),
                state=State.QUEUED,
                turn=await next_turn(connection, terms.key, terms.priority),
                attempt=0,
                sync=False,
            )
            position = (await connection.execute(select(POSITION).where(request.c.seq == seq))).scalar_one()
        return Accepted(work.request_id, position)

    async def repeated(self, work: Work, terms: Terms) -> Accepted | None:
        if terms.idempotency is None:
            return None
        async with self._database.read() as connection:
            return await _repeated(connection, work, terms)

    async def begin(self, work: Work, app: str, owner: str, lease_s: float, terms: Terms = _NO_TERMS) -> Claim:
        kept = replace(_NO_TERMS, **{name: getattr(terms, name) for name in _OF_A_RUN}, may_retry=False)
        now = self._clock()
        lease = now + timedelta(seconds=lease_s)
        held: Mapping[str, Any] = {"state": State.CLAIMED, "owner": owner, "lease_until": lease}
        counts = terms.max_held is not None
        async with self._database.submitting() if counts else self._database.write() as connection:
            if terms.max_held is not None:
                count = await _count(connection, HELD, request.c.key == terms.key)
                if count >= terms.max_held:
                    raise TooMany(f"{count} requests of this key are running, and it may have no more.")
            await add(connection, work, app, kept, now, **held, turn=0, attempt=1, sync=True)
        return Claim(work, owner, 1)

    async def claim(
        self, owner: str, count: int, lease_s: float, at_once: Mapping[str, int] = _NO_LIMITS
    ) -> Sequence[Claim]:
        if count <= 0:
            return []
        now = self._clock()
        claims = []
        async with self._database.write() as connection:
            chosen = await choose(connection, count, now, at_once)
            taken = (
                update(request)
                .where(request.c.seq.in_(chosen))
                .values(
                    state=State.CLAIMED,
                    owner=owner,
                    lease_until=now + timedelta(seconds=lease_s),
                    attempt=request.c.attempt + 1,
                )
                .returning(*ORDER, request.c.key, request.c.attempt, request.c.work)
            )
            rows = (await connection.execute(taken)).all() if chosen else []
            await note_claimed(connection, [(row.priority, row.key, row.turn) for row in rows])
            for row in sorted(rows, key=lambda row: (row.priority, row.turn, row.seq)):
                try:
                    claims.append(Claim(Work.model_validate_json(row.work), owner, row.attempt))
                except ValidationError:
                    # Written by another version: it must not stop the queue, nor be offered again and again.
                    unreadable = PlatformError("internal_error", "The request cannot be read by this version.")
                    which = request.c.seq == row.seq
                    await end(connection, which, Outcome.ERROR, platform_answer(unreadable), now)
        return claims

    async def heartbeat(self, owner: str, lease_s: float, reports: Sequence[Report] = ()) -> Beat:
        now = self._clock()
        mine = (
            select(request.c.seq, request.c.id, request.c.attempt, request.c.cancel_requested)
            .where(HELD, request.c.owner == owner)
            .order_by(request.c.seq)
            .with_for_update()
        )
        async with self._database.write() as connection:
            rows = {row.id: row for row in await connection.execute(mine)}
            for report in reports:
                row = rows.get(report.claim.work.request_id)
                if row is not None and (report.claim.owner, report.claim.attempt) == (owner, row.attempt):
                    await append_lines(connection, request.c.seq == row.seq, report.lines, now)
            longer = {"lease_until": now + timedelta(seconds=lease_s)}
            kept = request.c.seq.in_([row.seq for row in rows.values()])
            await connection.execute(update(request).where(kept).values(longer))
        cancelled = frozenset(name for name, row in rows.items() if row.cancel_requested)
        return Beat({name: row.attempt for name, row in rows.items()}, cancelled)

    async def requeue(self, claim: Claim) -> bool:
        return await self._take_back(claim, Fault(lost_answer(), counts=False)) is not Retried.LOST

    async def retry(self, claim: Claim, fault: Answer, *, crashed: bool = False) -> Retried:
        return await self._take_back(claim, Fault(fault, crashed=crashed))

    async def expire(self) -> int:
        now = self._clock()
        # Looking first costs no write lock, and mostly there is nothing to do.
        async with self._database.read() as connection:
            if (await connection.execute(select(request.c.seq).where(over(now)).limit(1))).first() is None:
                return 0
        requeued = 0
        async with self._database.write() as connection:
            for row in (await connection.execute(to_let_go(over(now), now, skip_locked=True))).all():
                if row.late:
                    await end(connection, request.c.seq == row.seq, Outcome.ERROR, late_answer(), now)
                else:
                    became = await let_go(connection, row, Fault(lost_answer()), self._limits, now)
                    requeued += became is Retried.QUEUED
        return requeued

    async def running(self, claim: Claim) -> bool:
        now = self._clock()
        async with self._database.write() as connection:
            if await end(connection, and_(fence(claim), late(now)), Outcome.ERROR, late_answer(), now):
                return False
            return await start(connection, fence(claim), now) == 1

    async def log(self, claim: Claim, lines: Sequence[tuple[str, str]]) -> None:
        if lines:
            async with self._database.write() as connection:
                await append_lines(connection, fence(claim), lines, self._clock())

    async def finish(self, claim: Claim, outcome: Outcome, answer: Answer, media: Sequence[str] = ()) -> bool:
        async with self._database.write() as connection:
            return await end(connection, fence(claim), outcome, answer, self._clock(), media) == 1

    async def cancel(self, request_id: str, app: str, key: str | None = None) -> CancelAnswer:
        found = select(request.c.seq, request.c.state).where(_named(request_id, app, key)).with_for_update()
        async with self._database.write() as connection:
            row = (await connection.execute(found)).first()
            if row is None:
                return CancelAnswer.UNKNOWN
            this = request.c.seq == row.seq
            match State(row.state):
                case State.QUEUED:
                    await end(connection, this, Outcome.CANCELLED, cancelled_answer(), self._clock())
                    return CancelAnswer.REMOVED
                case State.CLAIMED | State.RUNNING:
                    await connection.execute(update(request).where(this).values(cancel_requested=True))
                    return CancelAnswer.REQUESTED
                case State.DONE:
                    return CancelAnswer.ALREADY_DONE

    async def cancelled(self, owner: str) -> Sequence[str]:
        asked = select(request.c.id).where(HELD, request.c.owner == owner, request.c.cancel_requested)
        async with self._database.read() as connection:
            return list((await connection.execute(asked)).scalars())

    async def status(self, request_id: str, app: str, key: str | None = None) -> Status | None:
        async with self._database.read() as connection:
            row = (await connection.execute(_STATUS, {"request_id": request_id, "app": app})).first()
        return None if row is None or key not in (None, row.key) else _status(row)

    async def statuses(self, request_ids: Sequence[str]) -> Mapping[str, Status]:
        found: dict[str, Status] = {}
        async with self._database.read() as connection:
            for first in range(0, len(request_ids), _AT_ONCE):
                asked = {"request_ids": list(request_ids[first : first + _AT_ONCE])}
                found |= {row.id: _status(row) for row in await connection.execute(_STATUSES, asked)}
        return found

    async def logs(self, request_id: str, after: int = 0) -> Sequence[LogEntry]:
        entries = (
            select(log.c.number, log.c.at, log.c.level, log.c.message)
            .join(request, request.c.seq == log.c.request_seq)
            .where(request.c.id == request_id, log.c.number > after)
            .order_by(log.c.number)
        )
        async with self._database.read() as connection:
            return [LogEntry(*row) for row in await connection.execute(entries)]

    async def answer(self, request_id: str, app: str, key: str | None = None) -> Answer | None:
        done = select(
            request.c.answer_status,
            request.c.answer_body,
            request.c.answer_headers,
            request.c.error,
            request.c.error_type,
        ).where(_named(request_id, app, key), request.c.state == State.DONE)
        async with self._database.read() as connection:
            row = (await connection.execute(done)).first()
        if row is None:
            return None
        return Answer(
            status=row.answer_status,
            body=json.loads(row.answer_body),
            headers=json.loads(row.answer_headers),
            error=row.error,
            error_type=row.error_type,
        )

    async def depth(self) -> int:
        async with self._database.read() as connection:
            return await _count(connection, _WAITS)

    async def load(self, key: str | None = None) -> Load:
        whose = [] if key is None else [request.c.key == key]
        going = request.c.state.in_((State.QUEUED, State.CLAIMED, State.RUNNING))
        counts = select(request.c.state, func.count().label("number")).where(going, *whose).group_by(request.c.state)
        async with self._database.read() as connection:
            found = {row.state: row.number for row in await connection.execute(counts)}
        return Load(found.get(State.QUEUED, 0), found.get(State.CLAIMED, 0) + found.get(State.RUNNING, 0))

    async def close(self) -> None:
        await self._database.close()

    async def _admit(self, connection: AsyncConnection, terms: Terms) -> None:
        waiting = await _count(connection, _WAITS)
        if waiting >= self._limits.waiting:
            raise TooMany(f"{waiting} requests are waiting, and the service takes no more.")
        if terms.max_ahead is not None and waiting > terms.max_ahead:
            raise TooMany(f"More than {terms.max_ahead} requests are waiting.")
        if terms.max_of_key is not None:
            of_key = await _count(connection, _WAITS, request.c.key == terms.key)
            if of_key >= terms.max_of_key:
                raise TooMany(f"{of_key} requests of this key are waiting, and it may have no more.")

    async def _take_back(self, claim: Claim, fault: Fault) -> Retried:
        now = self._clock()
        async with self._database.write() as connection:
            row = (await connection.execute(to_let_go(fence(claim), now))).first()
            return Retried.LOST if row is None else await let_go(connection, row, fault, self._limits, now)


# Asked ten times a second by every waiting client, so it is built once; its columns stand before the large ones.
_COLUMNS = (
    request.c.id,
    request.c.app,
    request.c.key,
    request.c.state,
    case((request.c.state.in_((State.QUEUED, State.CLAIMED)), POSITION)).label("position"),
    request.c.outcome,
    request.c.error,
    request.c.error_type,
    request.c.started_at,
    request.c.finished_at,
    request.c.lines,
)
_STATUS = select(*_COLUMNS).where(request.c.id == bindparam("request_id"), request.c.app == bindparam("app"))
_STATUSES = select(*_COLUMNS).where(request.c.id.in_(bindparam("request_ids", expanding=True)))
_WAITS = request.c.state == State.QUEUED
_AT_ONCE = 1000  # ids in one statement


def _status(row: Any) -> Status:
    return Status(
        request_id=row.id,
        app=row.app,
        state=State(row.state),
        position=row.position,
        outcome=None if row.outcome is None else Outcome(row.outcome),
        error=row.error,
        error_type=row.error_type,
        inference_seconds=_seconds(row.started_at, row.finished_at),
        lines=row.lines,
    )


def _named(request_id: str, app: str, key: str | None) -> ColumnElement[bool]:
    named = and_(request.c.id == request_id, request.c.app == app)
    return named if key is None else and_(named, request.c.key == key)


def _seconds(begin: datetime | None, end: datetime | None) -> float | None:
    return None if begin is None or end is None else (end - begin).total_seconds()


async def _count(connection: AsyncConnection, *which: ColumnElement[bool]) -> int:
    counted = select(func.count()).select_from(request).where(*which)
    return int((await connection.execute(counted)).scalar_one())


async def _repeated(connection: AsyncConnection, work: Work, terms: Terms) -> Accepted | None:
    if terms.idempotency is None:
        return None
    same = select(request.c.id, request.c.fingerprint, func.coalesce(POSITION, 0).label("position")).where(
        request.c.key == terms.key,
        request.c.endpoint == work.endpoint,
        request.c.idempotency_key == terms.idempotency.key,
    )
    row = (await connection.execute(same)).first()
    if row is None:
        return None
    if row.fingerprint != terms.idempotency.fingerprint:
        raise IdempotencyConflict
    return Accepted(row.id, row.position, repeated=True)
