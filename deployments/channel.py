"""From the drawer's threads to a replica's event loop, without ever holding more than three events and the notes."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress

from pipelines.events import Drawn, Event, Note, Preview, Progress


class Channel:
    """Carries a job's events to one reader on `loop`. A slow reader gets the newest progress and preview, not all."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._filled = asyncio.Event()
        self._notes: list[Note] = []
        self._progress: Progress | None = None
        self._preview: Preview | None = None
        self._last: Drawn | BaseException | None = None

    def put(self, event: Event | BaseException) -> None:
        """Hand over an event, from any thread; never blocks on the reader."""
        with self._lock:
            waiting = bool(self._notes or self._progress or self._preview or self._last)
            if isinstance(event, Progress):
                self._progress = event
            elif isinstance(event, Preview):
                self._preview = event
            elif isinstance(event, Note):
                self._notes.append(event)
            else:
                self._last = event
        if not waiting:
            with suppress(RuntimeError):  # a closed loop has no reader
                self._loop.call_soon_threadsafe(self._filled.set)

    async def events(self) -> AsyncIterator[Event]:
        """The job's events until `Drawn`, which is the last. Raises the exception that came instead of it."""
        while True:
            await self._filled.wait()
            with self._lock:
                self._filled.clear()
                notes, progress, preview, last = self._notes, self._progress, self._preview, self._last
                self._notes, self._progress, self._preview = [], None, None
            for note in notes:
                yield note
            if progress is not None:
                yield progress
            if preview is not None and last is None:  # the pictures themselves are better
                yield preview
            if isinstance(last, BaseException):
                raise last
            if last is not None:
                yield last
                return
