"""What has to be cleared up now and then, and hinders nothing when it fails."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from gateway.errors import StoreUnavailable
from gateway.rate_limited_log import RateLimitedLog

FIRST_S = 60.0  # from the start: whoever starts again and again clears up all the same

logger = logging.getLogger("fooocus.gateway")


class Housekeeping:
    """Runs sweeps, one after the other, every `every_s` seconds. Each returns how much it has cleared."""

    def __init__(
        self, sweeps: Sequence[Callable[[], Awaitable[int]]], every_s: float, first_s: float = FIRST_S
    ) -> None:
        self._sweeps, self._every_s, self._first_s = sweeps, every_s, first_s
        self._stopped = asyncio.Event()
        self._log = RateLimitedLog(logger)  # a gateway clears up every few seconds

    async def run(self) -> None:
        """Until `stop`."""
        pause = min(self._first_s, self._every_s)
        while not await self._stopped_within(pause):
            for sweep in self._sweeps:
                try:
                    if cleared := await sweep():
                        logger.info("cleared up: %d", cleared)
                except StoreUnavailable as error:
                    self._log.warning("clearing up waits for the %s store: %r", error.store, error.__cause__ or error)
                except Exception:
                    logger.exception("clearing up failed; it is tried again later")
            pause = self._every_s

    def stop(self) -> None:
        self._stopped.set()

    async def _stopped_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)
        return self._stopped.is_set()
