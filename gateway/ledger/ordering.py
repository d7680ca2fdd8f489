"""In which order waiting requests are claimed: priorities, keys in turn, oldest first; and how many are ahead.

Each request gets a turn when it is accepted, and what waits is claimed by (priority, turn, seq). The round of a
priority is the greatest turn that was claimed in it. A request's turn is the round, or one more than the last turn of
its own key, whichever is later (start-time fair queueing, Goyal, Vin and Cheng 1996, with requests of equal length).
Turns are never changed afterwards, so the position is a count over one index, and what is put back comes to its old
place.

The bound: a request that was accepted while m of its key and priority were waiting is claimed after those m and after
at most m + 2 of any other key, whenever these came. (m counts what was cancelled or ran past its deadline since the
key last waited for nothing; a request that is put back is claimed at once and counts for nobody.)
"""

from collections.abc import Iterable, Mapping
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
    select,
    update,
)

from gateway.ledger.base import State
from gateway.ledger.tables import request, turn

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
