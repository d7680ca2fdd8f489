"""The ledger's figures for whoever watches it: what waits, what is held, what has ended, which webhooks are owed.

Asked once in a few seconds by one process, or once a second by each gateway for operators who look; never for a
request. What is going is as many index entries as requests go, 10,000 in some ten milliseconds; what has ended is read
once, by the index of ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Integer, bindparam, case, func, select

from gateway.ledger.database import Database
from gateway.ledger.models import Outcome, Priority, State
from gateway.ledger.outbox import DeliveryState
from gateway.ledger.statements import GOING
from gateway.ledger.tables import UtcDateTime, delivery, request


@dataclass(frozen=True, slots=True)
class Going:
    """Requests of one endpoint and priority in one state. oldest: when the first of them came. recent: how many came
    since the moment that was asked for."""

    endpoint: str
    priority: Priority
    state: State
    number: int
    oldest: datetime
    recent: int


@dataclass(frozen=True, slots=True)
class Over:
    """One request that has ended. status: of its answer. drawn: whether it had begun."""

    endpoint: str
    outcome: Outcome
    error_type: str
    status: int
    drawn: bool
    created_at: datetime
    finished_at: datetime

    @property
    def seconds(self) -> float:
        """From its submit to its end."""
        return max(0.0, (self.finished_at - self.created_at).total_seconds())


@dataclass(frozen=True, slots=True)
class Owed:
    """Webhooks that are neither delivered nor given up. oldest: when the request ended that waits longest for its."""

    number: int = 0
    oldest: datetime | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What a ledger held at one moment."""

    going: Sequence[Going] = ()
    over: Sequence[Over] = ()
    owed: Owed = Owed()


@dataclass(frozen=True, slots=True)
class Failed:
    """One request that ended with an error. status: of its answer; error: as its caller was told it."""

    request_id: str
    endpoint: str
    key: str
    status: int
    error_type: str
    error: str
    finished_at: datetime


@dataclass(frozen=True, slots=True)
class Now:
    """What operators are told of a ledger, as it was at a moment. failed: the last first."""

    at: datetime
    going: Sequence[Going] = ()
    failed: Sequence[Failed] = ()
    owed: Owed = Owed()


LOOKED_THROUGH = 2000  # of the last ends, for errors

# By request_claim: state and priority stand in it.
_GOING = (
    select(
        request.c.endpoint,
        request.c.priority,
        request.c.state,
        func.count().label("number"),
        func.min(request.c.created_at).label("oldest"),
        func.sum(
            case((request.c.created_at > bindparam("recent", type_=UtcDateTime), 1), else_=0), type_=Integer
        ).label("recent"),
    )
    .where(GOING)
    .group_by(request.c.endpoint, request.c.priority, request.c.state)
)

# By request_finished; the columns stand before the large ones.
_OVER = (
    select(
        request.c.endpoint,
        request.c.outcome,
        request.c.error_type,
        request.c.answer_status,
        request.c.started_at,
        request.c.created_at,
        request.c.finished_at,
    )
    .where(
        request.c.state == State.DONE,
        request.c.finished_at > bindparam("since", type_=UtcDateTime),
        request.c.finished_at <= bindparam("until", type_=UtcDateTime),
    )
    .order_by(request.c.finished_at)
)

# By request_finished; of what is looked through no column is read that stands behind the large ones.
_ENDED = (
    select(request.c.seq, request.c.outcome)
    .where(request.c.state == State.DONE)
    .order_by(request.c.finished_at.desc())
    .limit(bindparam("through"))
    .subquery("ended")
)
_FAILED = (
    select(
        request.c.id,
        request.c.endpoint,
        request.c.key,
        request.c.answer_status,
        request.c.error_type,
        request.c.error,
        request.c.finished_at,
    )
    .join(_ENDED, _ENDED.c.seq == request.c.seq)
    .where(_ENDED.c.outcome == Outcome.ERROR)
    .order_by(request.c.finished_at.desc())
    .limit(bindparam("most"))
)

# By delivery_due.
_OWED = (
    select(func.count().label("number"), func.min(request.c.finished_at).label("oldest"))
    .select_from(delivery.join(request, request.c.seq == delivery.c.request_seq))
    .where(delivery.c.state == DeliveryState.WAITING)
)


class SqlFigures:
    """Reads the figures of a ledger's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, since: datetime, until: datetime, recent: datetime) -> Figures:
        """What is going now, and what has ended after `since` and not after `until`. Raises StoreUnavailable.

        recent: from when on a request has come lately (`Going.recent`).
        """

        def look(connection: Connection) -> Figures:
            going = connection.execute(_GOING, {"recent": recent}).all()
            over = connection.execute(_OVER, {"since": since, "until": until}).all()
            owed = connection.execute(_OWED).one()
            return Figures([_going(row) for row in going], [_over(row) for row in over], Owed(owed.number, owed.oldest))

        return await self._database.read(look)

    async def now(self, at: datetime, most: int) -> Now:
        """What is going at this moment, and `most` of the errors among the last ends. Raises StoreUnavailable."""

        def look(connection: Connection) -> Now:
            going = connection.execute(_GOING, {"recent": at}).all()
            failed = connection.execute(_FAILED, {"most": most, "through": LOOKED_THROUGH}).all()
            owed = connection.execute(_OWED).one()
            errors = [_failed(row) for row in failed]
            return Now(at, [_going(row) for row in going], errors, Owed(owed.number, owed.oldest))

        return await self._database.read(look)


def _going(row: Any) -> Going:
    return Going(row.endpoint, Priority(row.priority), State(row.state), row.number, row.oldest, row.recent)


def _over(row: Any) -> Over:
    begun = row.started_at is not None
    why, status = row.error_type or "", row.answer_status or 0
    return Over(row.endpoint, Outcome(row.outcome), why, status, begun, row.created_at, row.finished_at)


def _failed(row: Any) -> Failed:
    why, told, status = row.error_type or "", row.error or "", row.answer_status or 0
    return Failed(row.id, row.endpoint, row.key, status, why, told, row.finished_at)
