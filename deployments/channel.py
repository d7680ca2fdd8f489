"""From the drawer's threads to a replica's event loop."""

import asyncio
from collections.abc import AsyncIterator
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

    async def events(self) -> AsyncIterator[Event]:
        """The job's events until `Drawn`, which is the last. Raises the exception that came instead of it."""
        while True:
            await self._latest.filled.wait()
            found = self._latest.take()
            ends = isinstance(found[-1], Drawn | BaseException)
            for event in found:
                if isinstance(event, BaseException):
                    raise event
                if not (ends and isinstance(event, Preview)):  # the pictures themselves are better
                    yield event
            if ends:
                return
