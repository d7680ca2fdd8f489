"""The scheduler: which open asks are called next, and together.

What each turn may assume: an open ask waits from the turn in which it is filed until it is handed out or its job ends;
asks with equal stage and key may share a call; every strand of a job has at most one open ask. Nothing here looks at a
clock or a tensor, so the same asks in the same order are handed out in the same way.
"""

from collections.abc import Callable, Hashable
from typing import Protocol

from pipelines.denoising.jobs import Live, OpenAsk

PATIENCE = 8

Cap = Callable[[OpenAsk], int]
"""The most rows that a call with an ask like this one may hold."""


class Scheduler(Protocol):
    """Keeps the open asks. Called on the engine's thread only."""

    def file(self, opened: OpenAsk) -> None:
        """An ask has come up."""

    def drop(self, live: Live) -> int:
        """A job has ended: forget its asks. How many there were."""

    def next(self) -> list[OpenAsk]:
        """Take the asks of the next call, all of one stage and key; none when none is open."""

    def __len__(self) -> int:
        """How many asks are open."""


class FairScheduler:
    """Short jobs first, and nobody waits for ever.

    First come asks that have waited for PATIENCE turns, the oldest first; then those that a job makes once (its prompt,
    its hint, its decoding), which let it join the others or leave them; then evaluations, those of the job with the
    least work left first: steps left x rows x pixels. The first of this order leads the call, and the others that may
    share it fill it up to the cap in the same order. So an ask is handed out after PATIENCE + n turns at the latest,
    where n is the number of asks that were open when it was filed: once it has waited for PATIENCE turns, every turn
    hands out an older one or it.
    """

    def __init__(self, cap: Cap) -> None:
        self._cap = cap
        self._open: dict[int, OpenAsk] = {}  # by number, hence oldest first
        self._filed_in: dict[int, int] = {}  # the turn, by number
        self._numbers = 0
        self._turn = 0

    def file(self, opened: OpenAsk) -> None:
        self._numbers += 1
        self._open[self._numbers] = opened
        self._filed_in[self._numbers] = self._turn

    def drop(self, live: Live) -> int:
        gone = [number for number, opened in self._open.items() if opened.strand.live is live]
        self._take(gone)
        return len(gone)

    def next(self) -> list[OpenAsk]:
        if not self._open:
            return []
        order = sorted(self._open, key=self._urgency)
        leading = self._open[order[0]]
        room = self._cap(leading)
        taken = []
        for number in order:
            opened = self._open[number]
            if (_group(opened) == _group(leading) and opened.ask.rows <= room) or opened is leading:
                room -= opened.ask.rows
                taken.append(number)
        self._turn += 1
        return self._take(taken)

    def __len__(self) -> int:
        return len(self._open)

    def _urgency(self, number: int) -> tuple[bool, float, int]:
        """Small comes first."""
        if self._turn - self._filed_in[number] >= PATIENCE:
            return False, 0.0, number
        opened = self._open[number]
        return True, opened.ask.cost * opened.strand.live.steps_left, number

    def _take(self, numbers: list[int]) -> list[OpenAsk]:
        for number in numbers:
            del self._filed_in[number]
        return [self._open.pop(number) for number in numbers]


class OneByOneScheduler:
    """No batching, for debugging: the job that came first runs to its end, one ask a call."""

    def __init__(self) -> None:
        self._open: list[OpenAsk] = []

    def file(self, opened: OpenAsk) -> None:
        self._open.append(opened)

    def drop(self, live: Live) -> int:
        before = len(self._open)
        self._open = [opened for opened in self._open if opened.strand.live is not live]
        return before - len(self._open)

    def next(self) -> list[OpenAsk]:
        if not self._open:
            return []
        first = min(self._open, key=lambda opened: opened.strand.live.number)
        self._open.remove(first)
        return [first]

    def __len__(self) -> int:
        return len(self._open)


def _group(opened: OpenAsk) -> tuple[int, Hashable]:
    return id(opened.stage), opened.ask.key
