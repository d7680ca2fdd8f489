"""The ledger on SQLAlchemy Core: every method one transaction, every write of a holder fenced."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, func, select, update

from gateway.errors import PlatformError
from gateway.ledger.database import CLAIMING, SUBMITTING, Database, take_lock
from gateway.ledger.fetch import ORDER, POSITION, choose, next_turn, note_claimed
from gateway.ledger.former_work import read_work
from gateway.ledger.history import SqlHistory
from gateway.ledger.models import (
    Accepted,
    Answer,
    AtOnce,
    Beat,
    CancelAnswer,
    Claim,
    IdempotencyConflict,
    Limits,
    LogEntry,
    Outcome,
    Report,
    Retried,
    State,
    Status,
    Terms,
    TooMany,
)
from gateway.ledger.outbox import SqlOutbox
from gateway.ledger.tables import log, request
from gateway.ledger.transitions import (
    HELD,
    Fault,
    add,
    append_lines,
    cancelled_answer,
    end,
    fence,
    late,
    late_answer,
    let_go,
    lost_answer,
    over,
    platform_answer,
    start,
    to_let_go,
)
from gateway.work import Work

_NO_TERMS = Terms()
_USUAL = Limits()
_NO_LIMITS = AtOnce()


def utc_now() -> datetime:
    """The time of day that a ledger goes by where no other clock is given."""
    return datetime.now(UTC)


class SqlLedger:
    """`gateway.ledger.models.Ledger` in a database, with its outbox and its history.

    Several processes may hold one each on the same database; their clocks should agree within a fraction of a lease.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime] = utc_now, limits: Limits = _USUAL) -> None:
        self.database, self._clock, self._limits = database, clock, limits
        self.outbox = SqlOutbox(database, clock, limits)
        self.history = SqlHistory(database)

    @classmethod
    async def open(
        cls,
        url: str,
        clock: Callable[[], datetime] = utc_now,
        limits: Limits = _USUAL,
        backups: Path | None = None,
    ) -> "SqlLedger":
        """Open the ledger at `url` (see `Database.open`), creating or migrating it where needed."""
        return cls(await Database.open(url, backups), clock, limits)

    def limit(self, waiting: int) -> None:
        """So many requests may wait from now on (`Limits`); those that wait already stay."""
        self._limits = replace(self._limits, waiting=waiting)

    async def submit(self, work: Work, app: str, terms: Terms = _NO_TERMS) -> Accepted:
        def add_request(connection: Connection) -> Accepted:
            take_lock(connection, SUBMITTING)
            if (known := _repeated(connection, work, terms)) is not None:
                return known
            self._admit(connection, terms)
            turn = next_turn(connection, terms.key, terms.priority)
            seq = add(connection, work, app, terms, turn, self._clock())
            return Accepted(work.request_id, connection.execute(_POSITION, {"seq": seq}).scalar_one())

        return await self.database.write(add_request)

    async def repeated(self, work: Work, terms: Terms) -> Accepted | None:
        if terms.idempotency is None:
            return None
        return await self.database.read(lambda connection: _repeated(connection, work, terms))

    async def claim(self, owner: str, count: int, lease_s: float, at_once: AtOnce = _NO_LIMITS) -> Sequence[Claim]:
        if count <= 0:
            return []
        now = self._clock()

        def take(connection: Connection) -> Sequence[Claim]:
            if at_once.limits:
                take_lock(connection, CLAIMING)  # what is counted for a key stays true until these are counted too
            chosen = choose(connection, count, now, at_once)
            if not chosen:
                return []
            taken = (
                update(request)
                .where(request.c.seq.in_(chosen))
                .values(
                    state=State.CLAIMED,
                    owner=owner,
                    lease_until=now + timedelta(seconds=lease_s),
                    attempt=request.c.attempt + 1,
                )
                .returning(*ORDER, request.c.key, request.c.attempt, request.c.work, request.c.created_at)
            )
            rows = connection.execute(taken).all()
            note_claimed(connection, [(row.priority, row.key, row.turn) for row in rows])
            claims = []
            for row in sorted(rows, key=lambda row: (row.priority, row.turn, row.seq)):
                try:
                    queued_s = max(0.0, (now - row.created_at).total_seconds())
                    claims.append(Claim(read_work(row.work), owner, row.attempt, queued_s))
                except ValidationError:
                    # Written by another version: it must not stop the queue, nor be offered again and again.
                    unreadable = PlatformError("internal_error", "The request cannot be read by this version.")
                    end(connection, request.c.seq == row.seq, Outcome.ERROR, platform_answer(unreadable), now)
            return claims

        return await self.database.write(take)

    async def heartbeat(self, owner: str, lease_s: float, reports: Sequence[Report]) -> Beat:
        now = self._clock()
        told = {report.claim.work.request_id: report for report in reports if report.claim.owner == owner}
        mine = (
            select(request.c.seq, request.c.id, request.c.attempt, request.c.cancel_requested)
            .where(HELD, request.c.owner == owner)
            .order_by(request.c.seq)
            .with_for_update()
        )
        longer = {"lease_until": now + timedelta(seconds=lease_s)}

        def extend(connection: Connection) -> Beat:
            # a row that its owner does not name was claimed without an answer: its lease brings it back
            rows = {
                row.id: row
                for row in connection.execute(mine)
                if row.id in told and told[row.id].claim.attempt == row.attempt
            }
            for name, row in rows.items():
                append_lines(connection, request.c.seq == row.seq, told[name].lines, now)
            kept = request.c.seq.in_([row.seq for row in rows.values()])
            connection.execute(update(request).where(kept).values(longer))
            cancelled = frozenset(name for name, row in rows.items() if row.cancel_requested)
            return Beat({name: row.attempt for name, row in rows.items()}, cancelled)

        return await self.database.write(extend)

    async def listen(self, listener: str, lease_s: float, request_ids: Sequence[str]) -> None:
        longer = {"listened_until": self._clock() + timedelta(seconds=lease_s)}
        mine = (
            select(request.c.seq)
            .where(request.c.listener == listener, request.c.state.in_(_GOING), request.c.id.in_(request_ids))
            .order_by(request.c.seq)
            .with_for_update()
        )

        def extend(connection: Connection) -> None:
            which = request.c.seq.in_(connection.execute(mine).scalars().all())
            connection.execute(update(request).where(which).values(longer))

        await self.database.write(extend)

    async def abandon(
        self, request_id: str, listener: str, outcome: Outcome, answer: Answer, *, begun: bool = True
    ) -> bool:
        which = and_(request.c.id == request_id, request.c.listener == listener)
        if not begun:
            which = and_(which, request.c.state != State.RUNNING)
        return await self.database.write(lambda connection: end(connection, which, outcome, answer, self._clock()) == 1)

    async def requeue(self, claim: Claim) -> bool:
        return await self._take_back(claim, Fault(lost_answer(), counts=False)) is not Retried.LOST

    async def retry(self, claim: Claim, fault: Answer, *, crashed: bool = False) -> Retried:
        return await self._take_back(claim, Fault(fault, crashed=crashed))

    async def expire(self) -> int:
        now = self._clock()
        looked = select(request.c.seq).where(over(now)).limit(1)
        # Looking first costs no write lock, and mostly there is nothing to do.
        if not await self.database.read(lambda connection: connection.execute(looked).all()):
            return 0

        def free(connection: Connection) -> int:
            requeued = 0
            for row in connection.execute(to_let_go(over(now), now, skip_locked=True)).all():
                if row.late:
                    end(connection, request.c.seq == row.seq, Outcome.ERROR, late_answer(), now)
                else:
                    became = let_go(connection, row, Fault(lost_answer()), self._limits, now)
                    requeued += became is Retried.QUEUED
            return requeued

        return await self.database.write(free)

    async def running(self, claim: Claim) -> bool:
        now = self._clock()

        def begin(connection: Connection) -> bool:
            if end(connection, and_(fence(claim), late(now)), Outcome.ERROR, late_answer(), now):
                return False
            return start(connection, fence(claim), now) == 1

        return await self.database.write(begin)

    async def log(self, claim: Claim, lines: Sequence[tuple[str, str]]) -> None:
        if lines:
            now = self._clock()
            await self.database.write(lambda connection: append_lines(connection, fence(claim), lines, now))

    async def finish(self, claim: Claim, outcome: Outcome, answer: Answer, media: Sequence[str] = ()) -> bool:
        now = self._clock()
        return await self.database.write(
            lambda connection: end(connection, fence(claim), outcome, answer, now, media) == 1
        )

    async def cancel(self, request_id: str, app: str, key: str | None = None) -> CancelAnswer:
        found = select(request.c.seq, request.c.state).where(_named(request_id, app, key)).with_for_update()

        def end_or_flag(connection: Connection) -> CancelAnswer:
            row = connection.execute(found).first()
            if row is None:
                return CancelAnswer.UNKNOWN
            this = request.c.seq == row.seq
            match State(row.state):
                case State.QUEUED:
                    end(connection, this, Outcome.CANCELLED, cancelled_answer(), self._clock())
                    return CancelAnswer.REMOVED
                case State.CLAIMED | State.RUNNING:
                    connection.execute(update(request).where(this).values(cancel_requested=True))
                    return CancelAnswer.REQUESTED
                case State.DONE:
                    return CancelAnswer.ALREADY_DONE

        return await self.database.write(end_or_flag)

    async def status(self, request_id: str, app: str, key: str | None = None) -> Status | None:
        named = {"request_id": request_id, "app": app}
        row = await self.database.read(lambda connection: connection.execute(_STATUS, named).first())
        return None if row is None or key not in (None, row.key) else _status(row)

    async def statuses(self, request_ids: Sequence[str]) -> Mapping[str, Status]:
        def look(connection: Connection) -> Mapping[str, Status]:
            found: dict[str, Status] = {}
            for first in range(0, len(request_ids), _AT_ONCE):
                asked = {"request_ids": list(request_ids[first : first + _AT_ONCE])}
                found |= {row.id: _status(row) for row in connection.execute(_STATUSES, asked)}
            return found

        return await self.database.read(look)

    async def logs(self, request_id: str, after: int = 0) -> Sequence[LogEntry]:
        entries = (
            select(log.c.number, log.c.at, log.c.level, log.c.message)
            .join(request, request.c.seq == log.c.request_seq)
            .where(request.c.id == request_id, log.c.number > after)
            .order_by(log.c.number)
        )
        rows = await self.database.read(lambda connection: connection.execute(entries).all())
        return [LogEntry(*row) for row in rows]

    async def answer(self, request_id: str, app: str, key: str | None = None) -> Answer | None:
        done = select(
            request.c.answer_status,
            request.c.answer_body,
            request.c.answer_headers,
            request.c.error,
            request.c.error_type,
        ).where(_named(request_id, app, key), request.c.state == State.DONE)
        row = await self.database.read(lambda connection: connection.execute(done).first())
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
        return await self.database.read(lambda connection: _count(connection, _WAITS))

    async def close(self) -> None:
        await self.database.close()

    def _admit(self, connection: Connection, terms: Terms) -> None:
        waiting = connection.execute(_WAITING).scalar_one()
        if waiting >= self._limits.waiting:
            raise TooMany(f"{waiting} requests are waiting, and the service takes no more.")
        if terms.max_ahead is not None and waiting > terms.max_ahead:
            raise TooMany(f"More than {terms.max_ahead} requests are waiting.")
        if terms.max_of_key is not None:
            of_key = _count(connection, _WAITS, request.c.key == terms.key)
            if of_key >= terms.max_of_key:
                raise TooMany(f"{of_key} requests of this key are waiting, and it may have no more.")
        if terms.listener is not None and terms.max_open is not None:
            opened = _count(
                connection, request.c.key == terms.key, request.c.state.in_(_GOING), request.c.listener.is_not(None)
            )
            if opened >= terms.max_open:
                raise TooMany(f"{opened} calls of this key are open and wait for their pictures; it may have no more.")

    async def _take_back(self, claim: Claim, fault: Fault) -> Retried:
        now = self._clock()

        def take(connection: Connection) -> Retried:
            row = connection.execute(to_let_go(fence(claim), now)).first()
            return Retried.LOST if row is None else let_go(connection, row, fault, self._limits, now)

        return await self.database.write(take)


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
_WAITING = select(func.count()).select_from(request).where(_WAITS)
_POSITION = select(POSITION).where(request.c.seq == bindparam("seq"))
_GOING = (State.QUEUED, State.CLAIMED, State.RUNNING)
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


def _count(connection: Connection, *which: ColumnElement[bool]) -> int:
    counted = select(func.count()).select_from(request).where(*which)
    return int(connection.execute(counted).scalar_one())


def _repeated(connection: Connection, work: Work, terms: Terms) -> Accepted | None:
    if terms.idempotency is None:
        return None
    same = select(request.c.id, request.c.fingerprint, func.coalesce(POSITION, 0).label("position")).where(
        request.c.key == terms.key,
        request.c.endpoint == work.endpoint,
        request.c.idempotency_key == terms.idempotency.key,
    )
    row = connection.execute(same).first()
    if row is None:
        return None
    if row.fingerprint != terms.idempotency.fingerprint:
        raise IdempotencyConflict
    return Accepted(row.id, row.position, repeated=True)
