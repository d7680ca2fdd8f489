"""Retention: what is older than settings say is deleted, with its files."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from gateway.discarding import discard
from gateway.files.base import Files
from gateway.ledger.history import Retired, SqlHistory
from gateway.ledger.sql import utc_now
from gateway.settings import GatewaySettings

BATCH = 200  # requests of one transaction


class Retention:
    """Deletes requests that ended long ago, and clears those that were not to be stored. Any number may do it."""

    def __init__(
        self, history: SqlHistory, files: Files, settings: GatewaySettings, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._history, self._files, self._settings, self._clock = history, files, settings, clock

    async def sweep(self) -> int:
        """Delete and clear all that is due, batch by batch; return how many requests that were.

        Raises StoreUnavailable, and has done nothing, when their files could not be deleted now.
        """
        await self._files.check()  # for with a row goes the only word of its files
        now = self._clock()
        unstored = now - timedelta(seconds=self._settings.keep_unstored_s)
        old = now - timedelta(seconds=self._settings.keep_requests_s)
        return await self._all(self._history.forget, unstored) + await self._all(self._history.retire, old)

    async def _all(self, batch: Callable[[datetime, int], Awaitable[Retired]], before: datetime) -> int:
        count = 0
        while True:
            done = await batch(before, BATCH)
            await discard(done.media, self._files)
            count += done.requests
            if done.requests < BATCH:
                return count
            await asyncio.sleep(0)  # whoever else writes goes first
