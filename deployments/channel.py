"""From the drawer's threads to a replica's event loop."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from gateway.latest import Latest
from pipelines.events import Drawn, Event, Note, Preview, Step


class Channel:
    """Carries a job's events to one reader on `loop`. A slow reader gets the newest progress and preview, not all, and
    every note."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._latest: Latest[Event | BaseException] = Latest((Step, Preview), every=Note)

    def put(self, event: Event | BaseException) -> None:
        """Hand over an event, from any thread; never blocks on the reader."""
        with suppress(RuntimeError):  # a closed loop has no reader
            self._loop.call_soon_threadsafe(self._latest.put, event)

    async def events(self) -> AsyncIterator[Sequence[Event]]:
        """The job's events until `Drawn`, which is the last, those together that the reader finds together.

        Raises the exception that came instead of it.
        """
        while True:
            await self._latest.filled.wait()
            found = self._latest.take()
            end = found[-1]
            told = [event for event in found if not isinstance(event, BaseException)]
            if isinstance(end, Drawn | BaseException):  # the pictures themselves are better
                told = [event for event in told if not isinstance(event, Preview)]
            if told:
                yield told
            if isinstance(end, BaseException):
                raise end
            if isinstance(end, Drawn):
                return
