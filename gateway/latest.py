"""What was said and nobody has heard: a listener that is slow skips what is no longer news."""

import asyncio
from collections.abc import Sequence
from typing import Generic, TypeVar

Said = TypeVar("Said")


class Latest(Generic[Said]):
    """Of each of `passing`, which are types, the newest; of what is none of them, which is the end, the newest too.

    every: the type of what is never skipped. filled: set while there is anything. Belongs to one event loop.
    """

    def __init__(self, passing: Sequence[type[Said]], every: type[Said] | None = None) -> None:
        self.filled = asyncio.Event()
        self._passing, self._every = passing, every
        self._kept: list[Said] = []
        self._newest: dict[type[Said] | None, Said] = {}

    def put(self, said: Said) -> None:
        kind = type(said)
        if kind is self._every:
            self._kept.append(said)
        else:
            self._newest[kind if kind in self._passing else None] = said
        self.filled.set()

    def take(self) -> list[Said]:
        """What is new: what is never skipped, then each kind in the order of `passing`; an end is the last."""
        newest = (self._newest[kind] for kind in (*self._passing, None) if kind in self._newest)
        found = [*self._kept, *newest]
        self._kept, self._newest = [], {}
        self.filled.clear()
        return found
