"""The ledger on SQLAlchemy Core: every method one transaction, every write of a holder fenced."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection

from gateway.errors import PlatformError
from gateway.ledger.admission import Admission
from gateway.ledger.database import CLAIMING, Database, take_lock
from gateway.ledger.demand import Demand, read_demand
from gateway.ledger.fetch import choose, note_claimed
from gateway.ledger.former_work import read_work
from gateway.ledger.history import SqlHistory
from gateway.ledger.leadership import SqlLeadership
from gateway.ledger.models import (
    Accepted,
    Answer,
    AtOnce,
    CancelAnswer,
    Claim,
    LeaseRenewal,
    Limits,
    LogBatch,
    LogEntry,
    Outcome,
    Place,
    ReleaseOutcome,
    State,
    Status,
    Terms,
)
from gateway.ledger.outbox import SqlOutbox
from gateway.ledger.positions import NOT_BEGUN, Line, Positions, Rank
from gateway.ledger.statements import (
    ANSWER,
    ANY_EXPIRED,
    CLAIM,
    DEPTH,
    END_CLAIM,
    END_LISTENED,
    END_UNBEGUN,
    EXTEND_LEASES,
    EXTEND_LISTENING,
    FLAG_CANCELLATION,
    HELD_BY_OWNER,
    LISTENED_TO,
    LOGS,
    RELEASING,
    RELEASING_EXPIRED,
    STATUS,
    STATUSES,
    TO_CANCEL,
    WAITS,
    WAITS_BESIDES,
)
from gateway.ledger.submitting import Submitted, find_repeated, submit_request
from gateway.ledger.transitions import (
    Fault,
    Lines,
    append_lines,
    append_lines_of,
    begin,
    cancelled_answer,
    end,
    end_row,
    fence,
    late_answer,
    lost_answer,
    platform_answer,
    release,
)
from gateway.work import Work

_NO_TERMS = Terms()
_USUAL = Limits()
_NO_LIMITS = AtOnce()
_IDS = 1000  # in one statement


def utc_now() -> datetime:
    """The time of day that a ledger goes by where no other clock is given."""
    return datetime.now(UTC)


class SqlLedger:
    """`gateway.ledger.models.Ledger` in a database, with its outbox and its history.

    Several processes may hold one each on the same database; their clocks should agree within a fraction of a lease.
    positions_age_s: how old the order may be by which positions are told; 0 reads it anew for each call.
    """

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime] = utc_now,
        limits: Limits = _USUAL,
        positions_age_s: float = 0.0,
    ) -> None:
        self.database, self._clock, self._limits = database, clock, limits
        self._admission = Admission(limits.waiting)
        self._positions = Positions(database, positions_age_s)
        self.outbox = SqlOutbox(database, clock, limits)
        self.history = SqlHistory(database)
        self.leadership = SqlLeadership(database, clock)

    @classmethod
    async def open(
        cls,
        url: str,
        clock: Callable[[], datetime] = utc_now,
        limits: Limits = _USUAL,
        backups: Path | None = None,
        positions_age_s: float = 0.0,
    ) -> "SqlLedger":
        """Open the ledger at `url` (see `Database.open`), creating or migrating it where needed."""
        return cls(await Database.open(url, backups), clock, limits, positions_age_s)

    def limit(self, waiting: int) -> None:
        """So many requests may wait from now on (`Limits`); those that wait already stay."""
        self._admission.waiting = waiting

    async def submit(self, work: Work, app: str, terms: Terms = _NO_TERMS, place: Place | None = None) -> Accepted:
        done = await self.database.write(
            lambda connection: submit_request(connection, self._admission, work, app, terms, place, self._clock)
        )
        self._admission.remember(done.counts)
        return await self._accepted(done)

    async def repeated(self, work: Work, terms: Terms) -> Accepted | None:
        if terms.idempotency is None:
            return None
        known = await self.database.read(lambda connection: find_repeated(connection, work, terms))
        return None if known is None else await self._accepted(known)

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
            taken = {"chosen": chosen, "by": owner, "until": now + timedelta(seconds=lease_s)}
            rows = connection.execute(CLAIM, taken).all()
            note_claimed(connection, [(row.priority, row.key, row.turn) for row in rows])
            claims = []
            for row in sorted(rows, key=lambda row: (row.priority, row.turn, row.seq)):
                try:
                    queued_s = max(0.0, (now - row.created_at).total_seconds())
                    rank = (row.priority, row.turn, row.seq)
                    claims.append(Claim(read_work(row.work), owner, row.attempt, queued_s, rank=rank))
                except ValidationError:
                    # Written by another version: it must not stop the queue, nor be offered again and again.
                    unreadable = PlatformError("internal_error", "The request cannot be read by this version.")
                    end_row(connection, row.seq, Outcome.ERROR, platform_answer(unreadable), now)
            return claims

        return await self.database.write(take)

    async def heartbeat(self, owner: str, lease_s: float, reports: Sequence[LogBatch]) -> LeaseRenewal:
        now = self._clock()
        told = {(each.claim.work.request_id, each.claim.attempt): each for each in reports if each.claim.owner == owner}
        until = now + timedelta(seconds=lease_s)

        def extend(connection: Connection) -> LeaseRenewal:
            # a row that its owner does not name was claimed without an answer: its lease brings it back
            rows = {
                row.id: row for row in connection.execute(HELD_BY_OWNER, {"by": owner}) if (row.id, row.attempt) in told
            }
            for name, row in rows.items():
                append_lines(connection, row.seq, told[name, row.attempt].lines, now)
            if rows:
                connection.execute(EXTEND_LEASES, {"seqs": [row.seq for row in rows.values()], "until": until})
            cancelled = frozenset(name for name, row in rows.items() if row.cancel_requested)
            return LeaseRenewal({name: row.attempt for name, row in rows.items()}, cancelled)

        return await self.database.write(extend)

    async def listen(self, listener: str, lease_s: float, request_ids: Sequence[str]) -> None:
        until = self._clock() + timedelta(seconds=lease_s)

        def extend(connection: Connection) -> None:
            listened = connection.execute(LISTENED_TO, {"by": listener, "ids": list(request_ids)}).scalars().all()
            if listened:
                connection.execute(EXTEND_LISTENING, {"seqs": listened, "until": until})

        await self.database.write(extend)

    async def abandon(
        self, request_id: str, listener: str, outcome: Outcome, answer: Answer, *, begun: bool = True
    ) -> bool:
        ending, named = END_LISTENED if begun else END_UNBEGUN, {"of_id": request_id, "by": listener}
        return await self.database.write(
            lambda connection: end(connection, ending, named, outcome, answer, self._clock()) == 1
        )

    async def requeue(self, claim: Claim) -> bool:
        return await self._take_back(claim, Fault(lost_answer(), counts=False)) is not ReleaseOutcome.LOST

    async def retry(self, claim: Claim, fault: Answer, *, crashed: bool = False) -> ReleaseOutcome:
        return await self._take_back(claim, Fault(fault, crashed=crashed))

    async def expire(self) -> int:
        now = self._clock()
        # Looking first costs no write lock, and mostly there is nothing to do.
        if not await self.database.read(lambda connection: connection.execute(ANY_EXPIRED, {"now": now}).all()):
            return 0

        def free(connection: Connection) -> int:
            requeued = 0
            for row in connection.execute(RELEASING_EXPIRED, {"now": now}).all():
                if row.late:
                    end_row(connection, row.seq, Outcome.ERROR, late_answer(), now)
                else:
                    became = release(connection, row, Fault(lost_answer()), self._limits, now)
                    requeued += became is ReleaseOutcome.QUEUED
            return requeued

        return await self.database.write(free)

    async def running(self, claim: Claim) -> bool:
        now = self._clock()
        return await self.database.write(lambda connection: begin(connection, claim, now))

    async def log(self, claim: Claim, lines: Lines) -> None:
        if lines:
            now = self._clock()
            await self.database.write(lambda connection: append_lines_of(connection, claim, lines, now))

    async def finish(
        self, claim: Claim, outcome: Outcome, answer: Answer, media: Sequence[str] = (), lines: Lines = ()
    ) -> bool:
        now = self._clock()
        return await self.database.write(
            lambda connection: end(connection, END_CLAIM, fence(claim), outcome, answer, now, media, lines) == 1
        )

    async def cancel(self, request_id: str, app: str, key: str | None = None) -> CancelAnswer:
        def end_or_flag(connection: Connection) -> tuple[CancelAnswer, Rank | None]:
            row = connection.execute(TO_CANCEL, _named(request_id, app)).first()
            if row is None or key not in (None, row.key):
                return CancelAnswer.UNKNOWN, None
            match State(row.state):
                case State.QUEUED:
                    end_row(connection, row.seq, Outcome.CANCELLED, cancelled_answer(), self._clock())
                    return CancelAnswer.REMOVED, (row.priority, row.turn, row.seq)
                case State.CLAIMED | State.RUNNING:
                    connection.execute(FLAG_CANCELLATION, {"this": row.seq})
                    return CancelAnswer.REQUESTED, None
                case State.DONE:
                    return CancelAnswer.ALREADY_DONE, None

        answer, rank = await self.database.write(end_or_flag)
        if rank is not None:
            self._positions.leave(app, rank)
        return answer

    async def status(self, request_id: str, app: str, key: str | None = None) -> Status | None:
        named = _named(request_id, app)
        row = await self.database.read(lambda connection: connection.execute(STATUS, named).first())
        if row is None or key not in (None, row.key):
            return None
        return _status(row, await self._lines_for([row]))

    async def statuses(self, request_ids: Sequence[str]) -> Mapping[str, Status]:
        def look(connection: Connection) -> Sequence[Any]:
            parts = [list(request_ids[first : first + _IDS]) for first in range(0, len(request_ids), _IDS)]
            return [row for ids in parts for row in connection.execute(STATUSES, {"ids": ids})]

        rows = await self.database.read(look)
        lines = await self._lines_for(rows)
        return {row.id: _status(row, lines) for row in rows}

    async def logs(self, request_id: str, after: int = 0) -> Sequence[LogEntry]:
        asked = {"named": request_id, "after": after}
        rows = await self.database.read(lambda connection: connection.execute(LOGS, asked).all())
        return [LogEntry(*row) for row in rows]

    async def answer(self, request_id: str, app: str, key: str | None = None) -> Answer | None:
        named = _named(request_id, app)
        row = await self.database.read(lambda connection: connection.execute(ANSWER, named).first())
        if row is None or key not in (None, row.key):
            return None
        return Answer(
            status=row.answer_status,
            body=json.loads(row.answer_body),
            headers=json.loads(row.answer_headers),
            error=row.error,
            error_type=row.error_type,
            text=row.answer_body,
        )

    async def waits(self, besides: Collection[str] = ()) -> bool:
        asked = (WAITS_BESIDES, {"keys": [*besides]}) if besides else (WAITS, {})
        return await self.database.read(lambda connection: bool(connection.execute(*asked).scalar_one()))

    async def depth(self) -> int:
        return await self.database.read(lambda connection: int(connection.execute(DEPTH).scalar_one()))

    async def demand(self, behind: int | None = None) -> Demand:
        """What there is to do. behind: see `read_demand`. Its cost grows with what is not done, a step for each."""
        now = self._clock()
        return await self.database.read(lambda connection: read_demand(connection, now, behind))

    async def close(self) -> None:
        await self.database.close()

    async def _accepted(self, done: Submitted) -> Accepted:
        position = 0
        if done.state in NOT_BEGUN:
            if not done.repeated:
                self._positions.enter(done.app, done.state, done.rank)
            position = await self._positions.position(done.app, done.state, done.rank)
        return Accepted(done.request_id, position, done.repeated, done.claim)

    async def _lines_for(self, rows: Sequence[Any]) -> Mapping[str, Line]:
        """The lines in which `rows` stand; none are read where all have begun."""
        return await self._positions.lines() if any(row.state in NOT_BEGUN for row in rows) else {}

    async def _take_back(self, claim: Claim, fault: Fault) -> ReleaseOutcome:
        now = self._clock()

        def take(connection: Connection) -> ReleaseOutcome:
            row = connection.execute(RELEASING, {**fence(claim), "now": now}).first()
            return ReleaseOutcome.LOST if row is None else release(connection, row, fault, self._limits, now)

        return await self.database.write(take)


def _named(request_id: str, app: str) -> Mapping[str, str]:
    return {"named": request_id, "of_app": app}


def _status(row: Any, lines: Mapping[str, Line]) -> Status:
    state = State(row.state)
    return Status(
        request_id=row.id,
        app=row.app,
        state=state,
        position=lines.get(row.app, Line()).position(state, (row.priority, row.turn, row.seq))
        if state in NOT_BEGUN
        else None,
        outcome=None if row.outcome is None else Outcome(row.outcome),
        error=row.error,
        error_type=row.error_type,
        inference_seconds=_seconds(row.started_at, row.finished_at),
        lines=row.lines,
    )


def _seconds(begin: datetime | None, end: datetime | None) -> float | None:
    return None if begin is None or end is None else (end - begin).total_seconds()
