"""Asks: what a picture's straight-line code may request from the engine, and how the engine may batch it."""

from collections.abc import Generator, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Ask(Protocol):
    """Something that only the owner of the device does.

    key: asks of one stage with equal keys may share a call. rows: how much of a call's row cap this one takes. cost:
    rows x pixels, of what a job asks for in every step; 0 for what it asks for once.
    """

    @property
    def key(self) -> Hashable: ...

    @property
    def rows(self) -> int: ...

    @property
    def cost(self) -> float: ...


class Stage(Protocol):
    """Serves the asks of one type, several at a time."""

    name: str

    def cap(self, ask: Ask) -> int:
        """The most rows that a call with this ask's key may hold; an ask that is larger runs alone."""

    def run(self, asks: Sequence[Any]) -> Sequence[Any]:
        """Answer asks that share a key, in their order. May raise: then the engine tries them one by one."""


Routine = Generator[Any, Any, Any]
"""Straight-line code that yields asks (or a `Fork`), is sent their answers, and returns its result."""


@dataclass(frozen=True, eq=False)
class Fork:
    """Run these routines side by side; the answer is the list of their results. The trajectories of a job."""

    routines: Sequence[Routine]


@dataclass(frozen=True)
class Advance:
    """Not a request: the asking trajectory says how many of its sampling steps are done. Answered at once."""

    done: int
