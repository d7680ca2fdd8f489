"""Which waiting requests the next claim takes."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, func, or_, select

from gateway.ledger.base import AtOnce, State
from gateway.ledger.ending import HELD
from gateway.ledger.ordering import ORDER
from gateway.ledger.tables import request


def choose(connection: Connection, count: int, now: datetime, at_once: AtOnce) -> Sequence[int]:
    """The seqs of up to `count` QUEUED requests, in order, locked."""
    room = _Room(connection, at_once)
    chosen: list[int] = []
    while True:
        wanted = count - len(chosen)
        first = (
            select(request.c.seq, request.c.key)
            .where(
                request.c.state == State.QUEUED,
                or_(request.c.start_by.is_(None), request.c.start_by > now),
                request.c.seq.not_in(chosen),
                request.c.key.not_in(room.full()),
            )
            .order_by(*ORDER)
            .limit(wanted)
            .with_for_update(skip_locked=True)
        )
        found = (connection.execute(first)).all()
        for row in found:
            if room.take(row.key):
                chosen.append(row.seq)
        if len(chosen) == count or len(found) < wanted:
            return chosen


class _Room:
    """How many requests more each key may have HELD."""

    def __init__(self, connection: Connection, at_once: AtOnce) -> None:
        self._at_once = at_once
        self._held = {row.key: row.number for row in connection.execute(_HELD_BY_KEY)} if at_once.limits else {}

    def full(self) -> Sequence[str]:
        """The keys that may have no more, of those that have any or have a limit of their own."""
        return sorted(key for key in {*self._held, *self._at_once.of_key} if not self._left(key))

    def take(self, key: str) -> bool:
        """Count one more of a key, where it may have it."""
        if not self._left(key):
            return False
        self._held[key] = self._held.get(key, 0) + 1
        return True

    def _left(self, key: str) -> bool:
        most = self._at_once.of_key.get(key, self._at_once.default)
        return most is None or self._held.get(key, 0) < most


_HELD_BY_KEY = select(request.c.key, func.count().label("number")).where(HELD).group_by(request.c.key)
