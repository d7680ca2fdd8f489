"""Which replica draws a request, and which of those that wait goes next. Pure: whoever counts gives it the counts.

The rule. A replica has as many rows as one of its UNet calls, and a request takes as many as it has rows in a call:

1. Nobody is given to a full replica, and nobody waits while one has room.
2. A replica with room for all of a request goes before one that it would overfill. (One row free is room, so that a
   large request does not wait for ever behind small ones; so a replica is overfull by one request at most.)
3. Of these the emptiest draws it, as a share of its rows after this request, where what a replica has at hand makes it
   emptier: by `at_hand` with the weights that are wanted, by `base` with their base alone, and by `hint` more where it
   was last given one of the same hint. So whoever has them draws it, unless somebody is emptier by more than that:
   weights that are asked for often come to be at several replicas, and no replica stands idle beside a crowded one.
4. Equal ones are told apart by the names of the weights and of the replica, so that weights that nobody has, or has no
   more, come to the same replica from several sides.
5. Who waits goes by priority, then in the order of claims. Of the same priority, one whose weights are at hand where
   there is room, or nowhere, may pass those whose are at hand at full replicas alone: less than `reach` of them, and
   nobody is passed more than `passes` times.
6. While all are full, whoever's key has no place at all gets one at the emptiest that has fewer requests than rows. So
   a key that asks for large pictures without end does not keep another from beginning.
"""

from collections.abc import Container, Sequence, Set
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar
from zlib import crc32

from pipelines.weights.at_hand import Weights


@dataclass(frozen=True, slots=True)
class Rules:
    """Shares of a replica's rows, and who may pass how many others how often (see above)."""

    at_hand: float = 0.5
    base: float = 0.25
    hint: float = 0.25
    passes: int = 8
    reach: int = 16


RULES = Rules()
OWN = Weights()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request wants. rows: that it takes of a replica, at least 1. hint: what its client wants to find again."""

    rows: float
    weights: Weights = OWN
    hint: str = ""


@dataclass(slots=True)
class ReplicaState:
    """A replica that lives.

    rows: that it has; 0 takes nothing. taken: of them, by the `requests` that were placed there and have not gone.
    holds: the weights at hand there or on their way there; the family's own are everywhere, and need not be among them.
    bases: of these, with their own. hints: of the requests that were placed there last.
    """

    name: str
    rows: float
    taken: float = 0.0
    holds: Set[Weights] = frozenset()
    bases: Set[str] = frozenset()
    hints: Set[str] = frozenset()
    requests: int = 0

    @property
    def has_room(self) -> bool:
        return self.taken < self.rows


@dataclass(slots=True, eq=False)
class Waiting:
    """One that waits for a place. rank: what goes before what, its priority first; passed: how often it was passed;
    key: whose it is, empty where callers have none."""

    name: str
    wanted: Wanted
    rank: tuple[int, ...]
    passed: int = 0
    key: str = ""


One = TypeVar("One", bound=Waiting)


def choose(replicas: Sequence[ReplicaState], wanted: Wanted, rules: Rules = RULES) -> str | None:
    """The name of the replica that draws it; None where none has room."""
    rows, weights, hint = wanted.rows, wanted.weights, wanted.hint
    own = weights == OWN
    best: list[ReplicaState] = []
    least, fits = 0.0, False
    most_emptier = max(rules.at_hand, rules.base)
    for each in replicas:  # hundreds of them for each request, hence what spares a look at what is at hand there
        taken, size = each.taken, each.rows
        if taken >= size:
            continue
        whole = not taken or taken + rows <= size
        if fits and not whole:
            continue
        fullness = (taken + rows) / size
        if best and whole is fits and not hint and fullness - most_emptier > least:
            continue
        if own or weights in each.holds:
            fullness -= rules.at_hand
        elif not weights.base or weights.base in each.bases:
            fullness -= rules.base
        if hint and hint in each.hints:
            fullness -= rules.hint
        if not best or (whole and not fits) or fullness < least:
            best, least, fits = [each], fullness, whole
        elif fullness == least:
            best.append(each)
    if len(best) > 1:
        wish = hint or f"{weights.base}\n{weights.loras}"
        return max(best, key=lambda each: (crc32(f"{wish}\n{each.name}".encode()), each.name)).name
    return best[0].name if best else None


def choose_next(
    waiting: Sequence[One], replicas: Sequence[ReplicaState], rules: Rules = RULES, placed: Container[str] = ()
) -> tuple[One, str] | None:
    """Who goes next, of those that wait in the order of their ranks, and to which replica; None where nobody waits or
    none has room. Whoever calls counts those before it as passed. placed: keys that have a place."""
    if not waiting:
        return None
    free = [each for each in replicas if each.taken < each.rows]
    if not free:
        return _squeeze_in(waiting, replicas, placed)
    goes, priority = waiting[0], waiting[0].rank[:1]
    for one in islice(waiting, rules.reach):
        if one.rank[:1] != priority:
            break
        weights = one.wanted.weights
        if weights == OWN or _some_have(free, weights) or not _some_have(replicas, weights):
            goes = one
            break
        if one.passed >= rules.passes:
            break
    name = choose(free, goes.wanted, rules)
    return None if name is None else (goes, name)


def _squeeze_in(
    waiting: Sequence[One], replicas: Sequence[ReplicaState], placed: Container[str]
) -> tuple[One, str] | None:
    left = [each for each in replicas if each.requests < each.rows]
    goes = next((one for one in waiting if one.key and one.key not in placed), None)
    if goes is None or not left:
        return None
    return goes, min(left, key=lambda each: (each.taken / each.rows, each.name)).name


def _some_have(replicas: Sequence[ReplicaState], weights: Weights) -> bool:
    for each in replicas:  # noqa: SIM110  # `any` takes three times as long, of hundreds of replicas for each that waits
        if weights in each.holds:
            return True
    return False
