"""The ledger on SQLAlchemy Core: every method one transaction, every write of a holder fenced."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError
from sqlalchemy import ColumnElement, and_, bindparam, case, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import PlatformError
from gateway.ledger.base import Answer, CancelAnswer, Claim, LogEntry, Outcome, State, Status
from gateway.ledger.database import Database
from gateway.ledger.tables import log, request
from gateway.work import Work

_HELD = request.c.state.in_((State.CLAIMED, State.RUNNING))


class SqlLedger:
    """`gateway.ledger.base.Ledger` in a database. Several processes may hold one each on the same database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    async def open(cls, url: str) -> "SqlLedger":
        """Open the ledger at `url` (sqlite+aiosqlite:////folder/ledger.db), creating or migrating it where needed."""
        return cls(await Database.open(url))

    async def submit(self, work: Work, app: str) -> int:
        async with self._database.write() as connection:
            seq = await _insert(connection, work, app, state=State.QUEUED, attempt=0, sync=False)
            # All rows have equal priority at birth, so those ahead are those that were there before.
            return int((await connection.execute(select(_ahead(app, 0, seq)))).scalar_one())

    async def begin(self, work: Work, app: str, owner: str, lease_s: float) -> Claim:
        async with self._database.write() as connection:
            lease = _now() + timedelta(seconds=lease_s)
            await _insert(
                connection, work, app, state=State.CLAIMED, attempt=1, sync=True, owner=owner, lease_until=lease
            )
        return Claim(work, owner, 1)

    async def claim(self, owner: str, count: int, lease_s: float) -> Sequence[Claim]:
        oldest = (
            select(request.c.seq)
            .where(request.c.state == State.QUEUED)
            .order_by(request.c.priority, request.c.seq)
            .limit(count)
            .with_for_update(skip_locked=True)
        )
        taken = (
            update(request)
            .where(request.c.seq.in_(oldest))
            .values(
                state=State.CLAIMED,
                owner=owner,
                lease_until=_now() + timedelta(seconds=lease_s),
                attempt=request.c.attempt + 1,
            )
            .returning(request.c.priority, request.c.seq, request.c.attempt, request.c.work)
        )
        claims = []
        async with self._database.write() as connection:
            rows = (await connection.execute(taken)).all()
            for row in sorted(rows, key=lambda row: (row.priority, row.seq)):
                try:
                    claims.append(Claim(Work.model_validate_json(row.work), owner, row.attempt))
                except ValidationError:
                    # Written by another version: it must not stop the queue, nor be offered again and again.
                    unreadable = PlatformError("internal_error", "The request cannot be read by this version.")
                    await _end(connection, request.c.seq == row.seq, Outcome.ERROR, _platform_answer(unreadable))
        return claims

    async def heartbeat(self, owner: str, lease_s: float) -> None:
        lease = _now() + timedelta(seconds=lease_s)
        async with self._database.write() as connection:
            await connection.execute(update(request).where(_HELD, request.c.owner == owner).values(lease_until=lease))

    async def requeue(self, claim: Claim) -> bool:
        async with self._database.write() as connection:
            return sum(await _release(connection, _held_by(claim))) == 1

    async def expire(self) -> int:
        # Looking first costs no write lock, and mostly there is nothing to do.
        over = and_(_HELD, request.c.lease_until < _now())
        async with self._database.read() as connection:
            if (await connection.execute(select(request.c.seq).where(over).limit(1))).first() is None:
                return 0
        async with self._database.write() as connection:
            _, requeued = await _release(connection, over)
            return requeued

    async def running(self, claim: Claim) -> bool:
        begun = (
            update(request)
            .where(_held_by(claim))
            .values(state=State.RUNNING, started_at=func.coalesce(request.c.started_at, _now()))
        )
        async with self._database.write() as connection:
            return (await connection.execute(begun)).rowcount == 1

    async def log(self, claim: Claim, lines: Sequence[tuple[str, str]]) -> None:
        if not lines:
            return
        last = select(func.coalesce(func.max(log.c.number), 0)).where(log.c.request_seq == request.c.seq)
        held = select(request.c.seq, last.scalar_subquery().label("last")).where(_held_by(claim))
        async with self._database.write() as connection:
            row = (await connection.execute(held)).first()
            if row is None:
                return
            at = _now()
            entries = [
                {"request_seq": row.seq, "number": number, "at": at, "level": level, "message": message}
                for number, (level, message) in enumerate(lines, row.last + 1)
            ]
            await connection.execute(insert(log), entries)

    async def finish(self, claim: Claim, outcome: Outcome, answer: Answer) -> bool:
        async with self._database.write() as connection:
            return await _end(connection, _held_by(claim), outcome, answer) == 1

    async def cancel(self, request_id: str, app: str) -> CancelAnswer:
        named = and_(request.c.id == request_id, request.c.app == app)
        async with self._database.write() as connection:
            queued = and_(named, request.c.state == State.QUEUED)
            if await _end(connection, queued, Outcome.CANCELLED, _cancelled_answer()) == 1:
                return CancelAnswer.REMOVED
            flagged = await connection.execute(update(request).where(named, _HELD).values(cancel_requested=True))
            if flagged.rowcount == 1:
                return CancelAnswer.REQUESTED
            known = (await connection.execute(select(request.c.seq).where(named))).first()
            return CancelAnswer.UNKNOWN if known is None else CancelAnswer.ALREADY_DONE

    async def cancelled(self, owner: str) -> Sequence[str]:
        asked = select(request.c.id).where(_HELD, request.c.owner == owner, request.c.cancel_requested)
        async with self._database.read() as connection:
            return list((await connection.execute(asked)).scalars())

    async def status(self, request_id: str, app: str) -> Status | None:
        async with self._database.read() as connection:
            row = (await connection.execute(_STATUS, {"request_id": request_id, "app": app})).first()
        if row is None:
            return None
        return Status(
            request_id=request_id,
            app=app,
            state=State(row.state),
            position=row.position,
            outcome=None if row.outcome is None else Outcome(row.outcome),
            error=row.error,
            error_type=row.error_type,
            inference_seconds=_seconds(row.started_at, row.finished_at),
        )

    async def logs(self, request_id: str, after: int = 0) -> Sequence[LogEntry]:
        entries = (
            select(log.c.number, log.c.at, log.c.level, log.c.message)
            .join(request, request.c.seq == log.c.request_seq)
            .where(request.c.id == request_id, log.c.number > after)
            .order_by(log.c.number)
        )
        async with self._database.read() as connection:
            return [LogEntry(*row) for row in await connection.execute(entries)]

    async def answer(self, request_id: str, app: str) -> Answer | None:
        done = select(
            request.c.answer_status,
            request.c.answer_body,
            request.c.answer_headers,
            request.c.error,
            request.c.error_type,
        ).where(request.c.id == request_id, request.c.app == app, request.c.state == State.DONE)
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
        queued = select(func.count()).select_from(request).where(request.c.state == State.QUEUED)
        async with self._database.read() as connection:
            return int((await connection.execute(queued)).scalar_one())

    async def close(self) -> None:
        await self._database.close()


def _now() -> datetime:
    return datetime.now(UTC)


def _held_by(claim: Claim) -> ColumnElement[bool]:
    """The fence: true for the row of `claim` as long as nobody else has taken or ended it."""
    return and_(
        request.c.id == claim.work.request_id,
        request.c.owner == claim.owner,
        request.c.attempt == claim.attempt,
        _HELD,
    )


def _ahead(app: Any, priority: Any, seq: Any) -> ColumnElement[int]:
    """How many requests of `app` are not begun and stand before (priority, seq)."""
    other = request.alias("other")
    waiting = and_(other.c.app == app, other.c.state.in_((State.QUEUED, State.CLAIMED)))
    # Two counts, each one range of the index; SQLite would scan all of a priority for a comparison of pairs.
    urgent = select(func.count()).select_from(other).where(waiting, other.c.priority < priority)
    earlier = select(func.count()).select_from(other).where(waiting, other.c.priority == priority, other.c.seq < seq)
    return urgent.scalar_subquery() + earlier.scalar_subquery()


# Asked ten times a second by every waiting client, so it is built once; its columns stand before the large ones.
_STATUS = select(
    request.c.state,
    case(
        (
            request.c.state.in_((State.QUEUED, State.CLAIMED)),
            _ahead(request.c.app, request.c.priority, request.c.seq),
        )
    ).label("position"),
    request.c.outcome,
    request.c.error,
    request.c.error_type,
    request.c.started_at,
    request.c.finished_at,
).where(request.c.id == bindparam("request_id"), request.c.app == bindparam("app"))


def _seconds(begin: datetime | None, end: datetime | None) -> float | None:
    return None if begin is None or end is None else (end - begin).total_seconds()


async def _insert(connection: AsyncConnection, work: Work, app: str, **columns: Any) -> int:
    values: Mapping[str, Any] = {
        "id": work.request_id,
        "app": app,
        "endpoint": work.endpoint,
        "work": work.model_dump_json(),
        "priority": 0,
        "cancel_requested": False,
        "created_at": _now(),
        **columns,
    }
    return int((await connection.execute(insert(request).values(**values).returning(request.c.seq))).scalar_one())


async def _end(connection: AsyncConnection, which: ColumnElement[bool], outcome: Outcome, answer: Answer) -> int:
    """Complete the rows that `which` names; return how many."""
    done = (
        update(request)
        .where(which)
        .values(
            state=State.DONE,
            outcome=outcome,
            lease_until=None,
            finished_at=_now(),
            answer_status=answer.status,
            answer_body=json.dumps(answer.body),
            answer_headers=json.dumps(dict(answer.headers)),
            error=answer.error,
            error_type=answer.error_type,
        )
    )
    return (await connection.execute(done)).rowcount


async def _release(connection: AsyncConnection, which: ColumnElement[bool]) -> tuple[int, int]:
    """Take held rows from their owners; return how many ended and how many are queued again.

    A row whose cancellation was asked ends cancelled; a sync run ends in an error, for its client has gone.
    """
    lost = PlatformError("runner_disconnected", "The process that ran this request was lost.")
    ended = await _end(connection, and_(which, request.c.cancel_requested), Outcome.CANCELLED, _cancelled_answer())
    ended += await _end(connection, and_(which, request.c.sync), Outcome.ERROR, _platform_answer(lost))
    # The attempt stays: it fences the lost owner out until the next claim counts on.
    again = update(request).where(which).values(state=State.QUEUED, owner=None, lease_until=None, started_at=None)
    return ended, (await connection.execute(again)).rowcount


def _platform_answer(error: PlatformError) -> Answer:
    return Answer(error.status, error.body(), error.headers(), error=error.detail, error_type=error.error_type)


def _cancelled_answer() -> Answer:
    return _platform_answer(PlatformError("client_cancelled", "Request was cancelled by the client"))
