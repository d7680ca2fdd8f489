"""Which waiting requests the next claim takes, and in which order: priorities, keys in turn, oldest first."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    func,
    insert,
    or_,
    select,
    update,
)

from gateway.ledger.models import AtOnce, State
from gateway.ledger.tables import request, turn
from gateway.ledger.transitions import HELD

BEFORE_ALL = -1  # of a key that has claimed nothing

ORDER = (request.c.priority, request.c.turn, request.c.seq)


def next_turn(connection: Connection, key: str, priority: int) -> int:
    """The turn of a new request. To be asked under the lock of those who submit."""
    claimed, latest, last = connection.execute(_TURNS, {"of_key": key, "of_priority": priority}).one()
    if claimed is None:
        connection.execute(insert(turn).values(priority=priority, key=key, claimed=BEFORE_ALL))
        claimed = BEFORE_ALL
    return int(max(latest or 0, claimed + 1, BEFORE_ALL if last is None else last + 1))


def note_claimed(connection: Connection, taken: Iterable[tuple[int, str, int]]) -> None:
    """Let the rounds go on after a claim of these (priority, key, turn)."""
    greatest: dict[tuple[int, str], int] = {}
    for priority, key, number in taken:
        greatest[priority, key] = max(number, greatest.get((priority, key), BEFORE_ALL))
    if greatest:
        # sorted, so that two claims at once lock these rows in the same order
        connection.execute(_CLAIMED, [_note(*name, greatest[name]) for name in sorted(greatest)])


def _note(priority: int, key: str, number: int) -> Mapping[str, Any]:
    return {"of_priority": priority, "of_key": key, "to": number}


_CLAIMED = (
    update(turn)
    .where(turn.c.priority == bindparam("of_priority"), turn.c.key == bindparam("of_key"))
    .where(turn.c.claimed < bindparam("to"))
    .values(claimed=bindparam("to"))
)


def _turns() -> Select[Any]:
    """The last turn of a key that was claimed, the round of its priority, the last turn of what it has waiting."""
    key: BindParameter[str] = bindparam("of_key")
    priority: BindParameter[int] = bindparam("of_priority")
    mine = select(turn.c.claimed).where(turn.c.priority == priority, turn.c.key == key)
    of_round = select(func.max(turn.c.claimed)).where(turn.c.priority == priority)
    waiting = select(func.max(request.c.turn)).where(
        request.c.key == key, request.c.state == State.QUEUED, request.c.priority == priority
    )
    return select(mine.scalar_subquery(), of_round.scalar_subquery(), waiting.scalar_subquery())


_TURNS = _turns()  # asked at every submit


def _position() -> ColumnElement[int]:
    other = request.alias("other")
    here = other.c.app == request.c.app
    same = and_(other.c.priority == request.c.priority, other.c.turn == request.c.turn, other.c.seq < request.c.seq)
    earlier = and_(other.c.priority == request.c.priority, other.c.turn < request.c.turn)
    urgent = other.c.priority < request.c.priority

    def count(state: State, *which: ColumnElement[bool]) -> ColumnElement[int]:
        # One range of the index each; SQLite would scan a whole priority for a comparison of triples.
        return select(func.count()).select_from(other).where(here, other.c.state == state, *which).scalar_subquery()

    def ahead(state: State) -> ColumnElement[int]:
        return count(state, urgent) + count(state, earlier) + count(state, same)

    return case(
        (request.c.state == State.QUEUED, count(State.CLAIMED) + ahead(State.QUEUED)),
        (request.c.state == State.CLAIMED, ahead(State.CLAIMED)),
    )


# How many requests of a row's app are not begun and before it; null for what has begun.
POSITION = _position()


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
