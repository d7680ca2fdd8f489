"""The webhooks that are owed: claimed by a sender, delivered, tried again or given up."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, select, update

from gateway.ledger.database import Database
from gateway.ledger.models import Answer, Limits, Outcome
from gateway.ledger.tables import delivery, request


class DeliveryState(StrEnum):
    """Where a webhook is. It leaves WAITING once."""

    WAITING = "waiting"  # to be sent, or being sent
    DELIVERED = "delivered"
    ABANDONED = "abandoned"  # after the last attempt


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt (from 1) at the webhook of a request, held by `owner`. seq: the request's row."""

    seq: int
    request_id: str
    key: str
    endpoint: str
    url: str
    outcome: Outcome
    answer: Answer
    owner: str
    attempt: int


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    """What is known about the webhook of a request. error: of the last failed attempt."""

    state: DeliveryState
    attempts: int
    next_at: datetime
    error: str | None


class SqlOutbox:
    """The outbox of a ledger's database. Every method is one transaction.

    Rows come into it with the end of their request and are sent at least once: a sender that dies holds a delivery for
    its lease only. Every write is fenced by (request, owner, attempt).
    """

    def __init__(self, database: Database, clock: Callable[[], datetime], limits: Limits) -> None:
        self._database, self._clock, self._limits = database, clock, limits

    async def claim(self, owner: str, count: int, lease_s: float) -> Sequence[Delivery]:
        """Take up to `count` deliveries whose time has come, longest due first, for `lease_s` seconds.

        A lease must be longer than an attempt may take. Deliveries whose last attempt was lost with its sender are
        given up here.
        """
        now = self._clock()
        # looking costs no write lock, and mostly nothing is due
        looked = {"now": now}
        if count <= 0 or not await self._database.read(lambda connection: connection.execute(_IS_DUE, looked).all()):
            return []
        first = (
            select(delivery.c.request_seq)
            .where(delivery.c.state == DeliveryState.WAITING, delivery.c.next_at <= now)
            .order_by(delivery.c.next_at, delivery.c.request_seq)
            .limit(count)
            .with_for_update(skip_locked=True)
            .cte("first")
        )
        taken = (
            update(delivery)
            .where(delivery.c.request_seq.in_(select(first.c.request_seq)))
            .values(owner=owner, attempt=delivery.c.attempt + 1, next_at=now + timedelta(seconds=lease_s))
            .returning(delivery.c.request_seq, delivery.c.attempt)
        )

        def take(connection: Connection) -> tuple[Mapping[int, int], Sequence[Any]]:
            attempts = {row.request_seq: row.attempt for row in connection.execute(taken)}
            spent = [seq for seq, attempt in attempts.items() if attempt > self._limits.deliveries]
            if spent:
                given_up = {"state": DeliveryState.ABANDONED, "ended_at": now, "attempt": delivery.c.attempt - 1}
                connection.execute(update(delivery).where(delivery.c.request_seq.in_(spent)).values(given_up))
            which = request.c.seq.in_([seq for seq in attempts if seq not in spent])
            return attempts, connection.execute(_OF_REQUEST.where(which).order_by(request.c.seq)).all()

        attempts, rows = await self._database.write(take)
        return [
            Delivery(
                seq=row.seq,
                request_id=row.id,
                key=row.key,
                endpoint=row.endpoint,
                url=row.webhook,
                outcome=Outcome(row.outcome),
                answer=Answer(
                    row.answer_status,
                    json.loads(row.answer_body),
                    json.loads(row.answer_headers),
                    row.error,
                    row.error_type,
                ),
                owner=owner,
                attempt=attempts[row.seq],
            )
            for row in rows
        ]

    async def delivered(self, held: Delivery) -> bool:
        """The receiver has taken it. False when the delivery was lost to another sender (nothing is written)."""
        done = (
            update(delivery)
            .where(_fence(held))
            .values(state=DeliveryState.DELIVERED, ended_at=self._clock(), error=None)
        )
        return await self._database.write(lambda connection: connection.execute(done).rowcount == 1)

    async def failed(self, held: Delivery, error: str, retry_s: float) -> DeliveryState | None:
        """The attempt failed: WAITING for another one in `retry_s` seconds, or ABANDONED after the last one (`Limits`).

        error: why, without secrets. None when the delivery was lost to another sender (nothing is written).
        """
        now = self._clock()
        last = held.attempt >= self._limits.deliveries
        state = DeliveryState.ABANDONED if last else DeliveryState.WAITING
        tried = (
            update(delivery)
            .where(_fence(held))
            .values(
                state=state,
                owner=None,
                error=error,
                next_at=now + timedelta(seconds=retry_s),
                ended_at=now if last else None,
            )
        )
        written = await self._database.write(lambda connection: connection.execute(tried).rowcount)
        return state if written == 1 else None

    async def postpone(self, held: Sequence[Delivery], delay_s: float) -> None:
        """Put deliveries back that were not tried, due in `delay_s` seconds; the claim was no attempt."""
        back = {"owner": None, "attempt": delivery.c.attempt - 1, "next_at": self._clock() + timedelta(seconds=delay_s)}

        def put_back(connection: Connection) -> None:
            for one in held:
                connection.execute(update(delivery).where(_fence(one)).values(back))

        await self._database.write(put_back)

    async def of(self, request_id: str) -> DeliveryStatus | None:
        """What became of the webhook of a request; None where none is or was owed."""
        found = (
            select(delivery.c.state, delivery.c.attempt, delivery.c.next_at, delivery.c.error)
            .join(request, request.c.seq == delivery.c.request_seq)
            .where(request.c.id == request_id)
        )
        row = await self._database.read(lambda connection: connection.execute(found).first())
        return None if row is None else DeliveryStatus(DeliveryState(row.state), row.attempt, row.next_at, row.error)


_IS_DUE = (
    select(delivery.c.request_seq)
    .where(delivery.c.state == DeliveryState.WAITING, delivery.c.next_at <= bindparam("now"))
    .limit(1)
)
_OF_REQUEST = select(
    request.c.seq,
    request.c.id,
    request.c.key,
    request.c.endpoint,
    request.c.webhook,
    request.c.outcome,
    request.c.answer_status,
    request.c.answer_body,
    request.c.answer_headers,
    request.c.error,
    request.c.error_type,
)


def _fence(held: Delivery) -> ColumnElement[bool]:
    return and_(
        delivery.c.request_seq == held.seq,
        delivery.c.owner == held.owner,
        delivery.c.attempt == held.attempt,
        delivery.c.state == DeliveryState.WAITING,
    )
