"""Where requests stand in the queue: one reading of its order for all who ask within a moment, a search in it for each.

A request's position is the number of its app's requests that are not begun and before it. What is CLAIMED begins
before all that is QUEUED; among themselves both go by `Rank`, in which order what waits is claimed.
"""

import asyncio
from bisect import bisect_left, insort
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic

from sqlalchemy import Connection

from gateway.errors import StoreUnavailable
from gateway.ledger.database import Database
from gateway.ledger.models import State
from gateway.ledger.statements import ORDER_OF_QUEUE

Rank = tuple[int, int, int]  # priority, turn, seq

NOT_BEGUN = (State.QUEUED, State.CLAIMED)
READING_SHARE = 0.05  # of a core that reading the order may take, however long the queue is


@dataclass(slots=True)
class Line:
    """The requests of one app that are not begun, in order."""

    claimed: list[Rank] = field(default_factory=list)
    queued: list[Rank] = field(default_factory=list)

    def position(self, state: State, rank: Rank) -> int:
        """state: as the asker knows it, who may know something newer or older than this line."""
        before = bisect_left(self.claimed, rank)
        if state is State.CLAIMED or self.claimed[before : before + 1] == [rank]:
            return before
        return len(self.claimed) + bisect_left(self.queued, rank)

    def enter(self, state: State, rank: Rank) -> None:
        """Let a new request stand in it, if it does not yet."""
        line = self.claimed if state is State.CLAIMED else self.queued
        place = bisect_left(line, rank)
        if line[place : place + 1] != [rank]:
            insort(line, rank, place)

    def leave(self, rank: Rank) -> None:
        """Let a request stand in it no more."""
        for line in (self.claimed, self.queued):
            place = bisect_left(line, rank)
            if line[place : place + 1] == [rank]:
                del line[place]


class Positions:
    """The order of a ledger's queue as one process knows it, at most `age_s` old, or older where reading it is slow.

    age_s: 0 reads it anew for whoever asks. Belongs to one event loop.
    """

    def __init__(self, database: Database, age_s: float = 0.0, clock: Callable[[], float] = monotonic) -> None:
        self._database, self._age_s, self._clock = database, age_s, clock
        self._lines: dict[str, Line] = {}
        self._begun_at, self._lasts_s = float("-inf"), age_s
        self._reading = asyncio.Lock()
        self._moved: list[Callable[[], None]] = []  # what this process changed while the order was being read

    async def lines(self) -> Mapping[str, Line]:
        """The line of each app that has one. Raises StoreUnavailable."""
        asked_at = self._clock()
        if not self._serve(asked_at):
            # who waits here takes what another one has begun to read since
            async with self._reading:
                if not self._serve(asked_at):
                    await self._read()
        return self._lines

    def enter(self, app: str, state: State, rank: Rank) -> None:
        """Let a request that has just been written stand in its line."""
        self._move(lambda: self._line(app).enter(state, rank))

    def leave(self, app: str, rank: Rank) -> None:
        """Let a request that has just been cancelled stand in its line no more."""
        self._move(lambda: self._line(app).leave(rank))

    async def position(self, app: str, state: State, rank: Rank) -> int:
        """The position of a request that was written just now: no reason to fail, so the last reading answers where
        the ledger has gone away since.
        """
        with suppress(StoreUnavailable):
            await self.lines()
        return self._line(app).position(state, rank)

    def _move(self, change: Callable[[], None]) -> None:
        if self._age_s:
            if self._reading.locked():
                self._moved.append(change)
            change()

    def _serve(self, asked_at: float) -> bool:
        return self._begun_at >= asked_at - self._lasts_s

    def _line(self, app: str) -> Line:
        return self._lines.setdefault(app, Line())

    async def _read(self) -> None:
        self._moved.clear()
        begun_at = self._clock()
        self._lines, took_s = await self._database.read(self._timed)
        self._begun_at = begun_at
        self._lasts_s = max(self._age_s, took_s / READING_SHARE) if self._age_s else 0.0
        for change in self._moved:  # perhaps too late to be read
            change()

    def _timed(self, connection: Connection) -> tuple[dict[str, Line], float]:
        begun_at = self._clock()
        return read_lines(connection), self._clock() - begun_at


def read_lines(connection: Connection) -> dict[str, Line]:
    """The lines as they are now."""
    lines: dict[str, Line] = {}
    for app, state, priority, turn, seq in connection.execute(ORDER_OF_QUEUE):
        if (line := lines.get(app)) is None:
            line = lines[app] = Line()
        (line.claimed if state == State.CLAIMED else line.queued).append((priority, turn, seq))
    return lines
