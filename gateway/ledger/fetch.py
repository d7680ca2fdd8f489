"""Which waiting requests the next claim takes, and in which order: priorities, keys in turn, oldest first.

`order` says the same without a database.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from gateway.ledger.models import AtOnce
from gateway.ledger.order import BEFORE_ALL, Room
from gateway.ledger.statements import ADD_TURN, CLAIMED_TURN, FIRST, HELD_BY_KEY


def note_submitted(connection: Connection, priority: int, key: str, claimed: int | None) -> None:
    """Give a key that comes for the first time its row. To be asked under the lock of those who submit.

    claimed: the turn of what it submits, where that is held from the beginning.
    """
    connection.execute(
        ADD_TURN, {"priority": priority, "key": key, "claimed": BEFORE_ALL if claimed is None else claimed}
    )


def note_claimed(connection: Connection, taken: Iterable[tuple[int, str, int]]) -> None:
    """Let the rounds go on after a claim of these (priority, key, turn)."""
    greatest: dict[tuple[int, str], int] = {}
    for priority, key, number in taken:
        greatest[priority, key] = max(number, greatest.get((priority, key), BEFORE_ALL))
    if greatest:
        # sorted, so that two claims at once lock these rows in the same order
        connection.execute(CLAIMED_TURN, [_note(*name, greatest[name]) for name in sorted(greatest)])


def _note(priority: int, key: str, number: int) -> Mapping[str, Any]:
    return {"of_priority": priority, "of_key": key, "to": number}


def choose(connection: Connection, count: int, now: datetime, at_once: AtOnce) -> Sequence[int]:
    """The seqs of up to `count` QUEUED requests, in order, locked."""
    room = Room(at_once, _held(connection) if at_once.limits else {})
    chosen: list[int] = []
    while True:
        wanted = count - len(chosen)
        asked = {"now": now, "besides": chosen, "past": room.full(), "most": wanted}
        found = connection.execute(FIRST, asked).all()
        for row in found:
            if room.take(row.key):
                chosen.append(row.seq)
        if len(chosen) == count or len(found) < wanted:
            return chosen


def _held(connection: Connection) -> Mapping[str, int]:
    return {row.key: row.number for row in connection.execute(HELD_BY_KEY)}
