"""The order of claims without a database: which waiting requests the next claim takes, and the turn of a new one.

The ledger's statements decide (`fetch`, `statements`); what is here says the same over rows in memory, for what plans
with that order, and as one reading of it. Tests hold the two to each other.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from heapq import heapify, heappop, heappush

from gateway.ledger.models import AtOnce, Priority

BEFORE_ALL = -1  # of a key that has claimed nothing

_NO_LIMITS = AtOnce()


@dataclass(frozen=True, slots=True)
class Waiting:
    """What the order reads of a request that is QUEUED."""

    priority: int
    turn: int
    seq: int
    key: str = ""
    start_by: datetime | None = None

    @property
    def rank(self) -> tuple[int, int, int]:
        return self.priority, self.turn, self.seq


class Room:
    """How many requests more each key may have held."""

    def __init__(self, at_once: AtOnce, held: Mapping[str, int]) -> None:
        """held: how many each key has; nothing is read of it where `at_once` limits nothing."""
        self._at_once, self._held = at_once, dict(held) if at_once.limits else {}

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


def next_turn(claimed: int | None, of_round: int | None, last: int | None) -> int:
    """The turn of a new request: never before the round, and after its key's others.

    claimed: the greatest turn of its key that was claimed, in its priority; of_round: of any key in it; last: the
    greatest turn of what its key has waiting in it, so that what was cancelled behind all others gives its turn back.
    """
    return max(
        of_round or 0, (BEFORE_ALL if claimed is None else claimed) + 1, (BEFORE_ALL if last is None else last) + 1
    )


def claims(
    waiting: Iterable[Waiting],
    count: int,
    now: datetime,
    at_once: AtOnce = _NO_LIMITS,
    held: Mapping[str, int] | None = None,
) -> list[Waiting]:
    """Up to `count` of what waits, in the order in which a claim takes them.

    NORMAL before LOW, keys in turn within a priority, oldest first within a key; what is late is left to its end, and
    what would be more of a key than `at_once` allows, of which it has `held`, lets others pass.
    """
    room, chosen = Room(at_once, held or {}), list[Waiting]()
    for row in sorted(waiting, key=lambda row: row.rank):
        if len(chosen) >= count:
            break
        if (row.start_by is None or row.start_by > now) and room.take(row.key):
            chosen.append(row)
    return chosen


@dataclass(slots=True)
class Order:
    """What waits, over time, in steps of a logarithm: `claims` and `next_turn` for a queue that lives in memory."""

    _rows: dict[int, Waiting] = field(default_factory=dict)
    _ranks: list[tuple[int, int, int]] = field(default_factory=list)  # a heap, with ranks of what waits no more
    _lasts: dict[tuple[int, str], list[tuple[int, int]]] = field(
        default_factory=dict
    )  # heaps of (-turn, seq), likewise
    _claimed: dict[tuple[int, str], int] = field(default_factory=dict)
    _rounds: dict[int, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._rows)

    def submit(
        self, seq: int, key: str = "", priority: int = Priority.NORMAL, start_by: datetime | None = None
    ) -> Waiting:
        """A new request waits, at the turn that it gets. seq: greater than all before."""
        of_key = priority, key
        turn = next_turn(self._claimed.get(of_key), self._rounds.get(priority), self._last(of_key))
        row = Waiting(priority, turn, seq, key, start_by)
        self.put_back(row)
        return row

    def put_back(self, row: Waiting) -> None:
        """What was claimed waits again, at its old place."""
        self._rows[row.seq] = row
        heappush(self._ranks, row.rank)
        heappush(self._lasts.setdefault((row.priority, row.key), []), (-row.turn, row.seq))

    def leave(self, seq: int) -> None:
        """A request waits no more: it was cancelled, or ended. Of the last one of its key the turn is free again."""
        self._rows.pop(seq, None)

    def claim(
        self, count: int, now: datetime, at_once: AtOnce = _NO_LIMITS, held: Mapping[str, int] | None = None
    ) -> list[Waiting]:
        """Take up to `count`, as `claims` chooses them, and let the rounds go on."""
        room, chosen, passed = Room(at_once, held or {}), list[Waiting](), list[tuple[int, int, int]]()
        while self._ranks and len(chosen) < count:
            rank = heappop(self._ranks)
            row = self._rows.get(rank[2])
            if row is None or row.rank != rank:
                continue
            if (row.start_by is None or row.start_by > now) and room.take(row.key):
                del self._rows[row.seq]
                chosen.append(row)
            else:
                passed.append(rank)
        if passed:
            self._ranks += passed
            heapify(self._ranks)
        for row in chosen:
            self._note(row)
        return chosen

    def _note(self, row: Waiting) -> None:
        of_key = row.priority, row.key
        self._claimed[of_key] = max(row.turn, self._claimed.get(of_key, BEFORE_ALL))
        self._rounds[row.priority] = max(row.turn, self._rounds.get(row.priority, BEFORE_ALL))

    def _last(self, of_key: tuple[int, str]) -> int | None:
        turns = self._lasts.get(of_key)
        while turns and turns[0][1] not in self._rows:
            heappop(turns)
        return -turns[0][0] if turns else None
