"""What a run has said and nobody has read yet: the newest step, the newest preview, its end. Never more than three."""

import asyncio
from dataclasses import dataclass

from gateway.work import Preview, Step


@dataclass(frozen=True, slots=True)
class Ended:
    """The request has ended; its answer is in the ledger."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """The service stops: what has not ended by now will not be drawn for a client that waits."""


RunEvent = Step | Preview | Ended | Stopping


class LatestEvents:
    """A reader that is slow skips what is no longer news. Belongs to one event loop."""

    def __init__(self) -> None:
        self.filled = asyncio.Event()
        self._step: Step | None = None
        self._preview: Preview | None = None
        self._end: Ended | Stopping | None = None

    def put(self, event: RunEvent) -> None:
        match event:
            case Step():
                self._step = event
            case Preview():
                self._preview = event
            case _:
                self._end = event
        self.filled.set()

    def take(self) -> list[RunEvent]:
        """What is new, in order; an end is the last."""
        found = [event for event in (self._step, self._preview, self._end) if event is not None]
        self._step = self._preview = self._end = None
        self.filled.clear()
        return found
