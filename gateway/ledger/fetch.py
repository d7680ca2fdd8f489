"""Which waiting requests the next claim takes, and in which order: priorities, keys in turn, oldest first."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from gateway.ledger.models import AtOnce
from gateway.ledger.statements import ADD_TURN, CLAIMED_TURN, FIRST, HELD_BY_KEY

BEFORE_ALL = -1  # of a key that has claimed nothing


def next_turn(claimed: int | None, of_round: int | None, last: int | None) -> int:
    """The turn of a new request, by what `PLACING` finds: never before the round, and after its key's others."""
    return max(
        of_round or 0, (BEFORE_ALL if claimed is None else claimed) + 1, (BEFORE_ALL if last is None else last) + 1
    )


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
    room = _Room(connection, at_once)
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


class _Room:
    """How many requests more each key may have HELD."""

    def __init__(self, connection: Connection, at_once: AtOnce) -> None:
        self._at_once = at_once
        self._held = {row.key: row.number for row in connection.execute(HELD_BY_KEY)} if at_once.limits else {}

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
        most = self._at_once.most(key)
        return most is None or self._held.get(key, 0) < most
