"""Places at the replicas that draw: who has one, who waits for one, and how many requests may be held for them.

Whoever is claimed is held from the claim to its end. On the way it is prepared, asks for a place, waits until a replica
has room, is drawn there, gives its place back, and is delivered.
"""

import asyncio
from bisect import insort
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from gateway.worker.capacity import USUAL_ROWS, ReplicaRegistry
from gateway.worker.placing import RULES, Rules, Waiting, Wanted, choose_next

WEIGHT = 0.1  # of each request in the mean of what they need


class Stage(Enum):
    """Where a held request is on its way."""

    AHEAD = auto()  # being prepared, or waiting for a place
    FETCHING = auto()  # what it needs is being fetched, which may take long and costs no replica anything
    PLACED = auto()
    DRAWN = auto()  # its place was given back


@dataclass(slots=True)
class _Held:
    rank: tuple[int, ...]
    attempt: int
    stage: Stage = Stage.AHEAD
    over: bool = False


@dataclass(slots=True, eq=False)
class Ticket(Waiting):
    """A request's question for a place. replica: the name of the one that it has a place at; empty for none."""

    replica: str = ""
    held: _Held | None = None
    _placed: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    async def placed(self) -> str:
        """The name of the replica, as soon as it has a place. Whoever gives up waiting gives the place back."""
        await self._placed
        return self.replica

    def _put_at(self, replica: str) -> None:
        self.replica = replica
        if not self._placed.done():
            self._placed.set_result(None)


class Places:
    """Gives places at the living replicas in the order of ranks, by the rule of `gateway.worker.placing`.

    look_ahead: requests that are held beyond those for which there is room, so that the next ones are prepared
    meanwhile, and so that demand shows where no replica lives. most: that are held in all.
    """

    def __init__(self, replicas: ReplicaRegistry, look_ahead: int, most: int, rules: Rules = RULES) -> None:
        self._replicas, self._look_ahead, self._most, self._rules = replicas, look_ahead, most, rules
        self._held: dict[str, _Held] = {}
        self._stages: Counter[Stage] = Counter()
        self._waiting: list[Ticket] = []  # by rank
        self._keys: Counter[str] = Counter()  # how many places each has
        self._rows = USUAL_ROWS  # what a request takes, before any was placed
        self._on_room: Callable[[], None] = lambda: None

    def bound(self, look_ahead: int, most: int) -> None:
        """These hold from now on."""
        self._look_ahead, self._most = look_ahead, most

    def tell(self, on_room: Callable[[], None]) -> None:
        """Call this when more may be held than before."""
        self._on_room = on_room

    def capacity(self) -> int:
        """How many requests may be held now: those that have, had or cannot use a place, those that have room, of the
        size that requests mostly have, and `look_ahead` more."""
        states = self._replicas.states()
        free = sum(max(0.0, each.rows - each.taken) for each in states)
        # more downloads than that would come back as a queue in which no priority and no key's share holds
        downloads = self._look_ahead + int(sum(each.rows for each in states))
        beside = len(self._held) - self._stages[Stage.AHEAD] - max(0, self._stages[Stage.FETCHING] - downloads)
        return min(self._most, beside + self._look_ahead + int(free / self._rows))

    def room(self) -> int:
        """How many requests that came now would be placed at once, of the size that they mostly have."""
        free = [each.rows - each.taken for each in self._replicas.states() if each.has_room]
        if self._waiting or not free:
            return 0
        return max(0, max(1, int(sum(free) / self._rows)) - self._stages[Stage.AHEAD])  # who is prepared asks sooner

    def hold(self, request_id: str, attempt: int, rank: tuple[int, ...]) -> None:
        """A request was claimed, and goes before those of greater ranks."""
        self._let_go(request_id)
        self._held[request_id] = _Held(rank, attempt)
        self._stages[Stage.AHEAD] += 1

    def let_go(self, request_id: str, attempt: int) -> None:
        """That attempt is over."""
        if (held := self._held.get(request_id)) is not None and held.attempt == attempt:
            self._let_go(request_id)

    def fetching(self, request_id: str) -> None:
        """It waits for what is being fetched; others may be held meanwhile."""
        self._move(self._held.get(request_id), Stage.FETCHING)
        self._on_room()

    def ask(self, request_id: str, wanted: Wanted, key: str = "") -> Ticket:
        """Ask for a place for a request of `key`; at once if there is room. To be given back in any case."""
        held = self._held.get(request_id)
        ticket = Ticket(request_id, wanted, () if held is None else held.rank, key=key, held=held)
        self._move(held, Stage.AHEAD)
        insort(self._waiting, ticket, key=lambda one: one.rank)
        self.place()
        return ticket

    def give_back(self, ticket: Ticket) -> None:
        """It is drawn, or will not be; or it waits no more. Nothing happens a second time."""
        if ticket in self._waiting:
            self._waiting.remove(ticket)
        elif ticket.replica:
            self._replicas.take_back(ticket.replica, ticket.wanted)
            ticket.replica = ""
            self._keys[ticket.key] -= 1
            if not self._keys[ticket.key]:
                del self._keys[ticket.key]
            self._move(ticket.held, Stage.DRAWN)
            self.place()
            self._on_room()

    def moved(self, ticket: Ticket, replica: str) -> None:
        """Another replica than the chosen one draws it: Serve does not send anything to that one now."""
        self._replicas.avoid(ticket.replica)
        self._replicas.take_back(ticket.replica, ticket.wanted)
        self._replicas.give(replica, ticket.wanted)
        ticket.replica = replica
        self.place()

    def place(self) -> None:
        """Place who can be placed: somebody asks, or there may be more room."""
        found = self._next() if self._waiting else None
        placed = found is not None
        while found is not None:
            ticket, replica = found
            at = self._waiting.index(ticket)
            for passed in self._waiting[:at]:
                passed.passed += 1
            del self._waiting[at]
            self._replicas.give(replica, ticket.wanted)
            self._keys[ticket.key] += 1
            self._rows += WEIGHT * (ticket.wanted.rows - self._rows)
            ticket._put_at(replica)
            self._move(ticket.held, Stage.PLACED)
            found = self._next()
        if placed:
            self._on_room()

    def _next(self) -> tuple[Ticket, str] | None:
        return choose_next(self._waiting, self._replicas.states(), self._rules, self._keys)

    def _move(self, held: _Held | None, stage: Stage) -> None:
        if held is not None and not held.over:
            self._stages[held.stage] -= 1
            self._stages[stage] += 1
            held.stage = stage

    def _let_go(self, request_id: str) -> None:
        if (held := self._held.pop(request_id, None)) is not None:
            self._stages[held.stage] -= 1
            held.over = True
