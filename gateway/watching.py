"""Who waits for a request's next status: one look into the ledger for all of them together."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gateway.ledger.base import Ledger, Status

PERIOD_S = 0.25  # between two looks

logger = logging.getLogger("fooocus.gateway")


class Watch:
    """One listener to one request. status: the newest that is known; None once the request is unknown."""

    def __init__(self, status: Status) -> None:
        self.status: Status | None = status
        self._news = asyncio.Event()

    async def changed(self, timeout_s: float) -> bool:
        """Wait until `status` is another one than at the last call; False when `timeout_s` is over first."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        found = self._news.is_set()
        self._news.clear()
        return found

    def tell(self, status: Status | None) -> None:
        if status != self.status:
            self.status = status
            self._news.set()


class Watching:
    """The listeners of one process. While there are any, it reads the statuses of all their requests in one query a
    period; a failure of the ledger delays what they hear. Belongs to one event loop.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._watches: dict[str, set[Watch]] = {}
        self._look_now = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    @contextmanager
    def watch(self, status: Status) -> Iterator[Watch]:
        """Listen to the request of `status`, which has just been read."""
        watch = Watch(status)
        self._watches.setdefault(status.request_id, set()).add(watch)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="watching")
        try:
            yield watch
        finally:
            others = self._watches[status.request_id]
            others.discard(watch)
            if not others:
                del self._watches[status.request_id]

    def look(self) -> None:
        """Look at once: this process has just changed something."""
        self._look_now.set()

    async def _look(self) -> None:
        while self._watches:
            with suppress(TimeoutError):
                async with asyncio.timeout(PERIOD_S):
                    await self._look_now.wait()
            self._look_now.clear()
            # who begins to listen meanwhile may know more than this look will find
            asked = {request_id: tuple(watches) for request_id, watches in self._watches.items()}
            try:
                found = await self._ledger.statuses([*asked]) if asked else {}
            except Exception:
                logger.exception("the ledger did not tell statuses; it is asked again")
                continue
            for request_id, watches in asked.items():
                for watch in watches:
                    watch.tell(found.get(request_id))
        self._looking = None
