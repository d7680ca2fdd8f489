"""A store that is away: whether it is, asked seldom on behalf of all, and storing what is worth waiting for."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

from gateway.errors import StoreUnavailable
from gateway.files.base import Files, FileTerms
from gateway.monitoring.trace import begin_apart
from gateway.rate_limited_log import RateLimitedLog

EVERY_S = 2.0
TIMEOUT_S = 5.0  # a store that takes longer to answer is as good as away

logger = logging.getLogger("fooocus.gateway")


def _to_nobody(store: str, up: bool) -> None:
    pass


class StoreWatch:
    """The state of one store.

    store: its name (`files`, `ledger`). check: raises when the store is away; asked at most every `every_s` seconds,
    and only while somebody wants to know. tell: hears of every answer, for a gauge. clock: seconds.
    """

    def __init__(
        self,
        store: str,
        check: Callable[[], Awaitable[object]],
        tell: Callable[[str, bool], None] = _to_nobody,
        every_s: float = EVERY_S,
        timeout_s: float = TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self._check, self._tell = check, tell
        self._every_s, self._timeout_s, self._clock = every_s, timeout_s, clock
        self._asking: asyncio.Task[bool] | None = None
        self._up = True
        self._known_until = float("-inf")

    async def well(self) -> bool:
        """Whether the store is there, as was found out not more than `every_s` ago; takes `timeout_s` at most."""
        if self._asking is None and self._clock() < self._known_until:
            return self._up
        if self._asking is None:
            self._asking = begin_apart(self._ask())
        # shared: who stops waiting does not take the answer from the others
        return await asyncio.shield(self._asking)

    async def run(self, every_s: float) -> None:
        """Ask every `every_s` seconds, so that `tell` hears of a store that nobody asks for. Ends when cancelled."""
        while True:
            await self.well()
            await asyncio.sleep(every_s)

    async def _ask(self) -> bool:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._check()
            up = True
        except Exception as error:
            up = False
            if self._up:
                logger.warning("the %s store is away: %r", self.store, error.__cause__ or error)
        finally:
            self._asking = None
        if up and not self._up:
            logger.info("the %s store is back", self.store)
        self._up, self._known_until = up, self._clock() + self._every_s
        self._tell(self.store, up)
        return up


FIRST_PAUSE_S, LAST_PAUSE_S = 0.25, 5.0


class PatientFiles:
    """Puts files into a store that may be away.

    patience_s: seconds from the first attempt to the last one's begin. logger: hears now and then that files wait.
    """

    def __init__(
        self, files: Files, patience_s: float, logger: logging.Logger, last_pause_s: float = LAST_PAUSE_S
    ) -> None:
        self._files, self._patience_s, self._last_pause_s = files, patience_s, last_pause_s
        self._log = RateLimitedLog(logger)

    async def put(self, key: str, content: bytes, content_type: str, terms: Callable[[], FileTerms]) -> None:
        """terms: asked at each attempt, so that a file expires from its storing. Raises StoreUnavailable in the end."""
        end = time.monotonic() + self._patience_s
        pause = min(FIRST_PAUSE_S, self._last_pause_s)
        while True:
            try:
                return await self._files.put(key, content, content_type, terms())
            except StoreUnavailable as error:
                left = end - time.monotonic()
                if left <= 0:
                    raise
                self._log.warning("a picture waits for the files store: %r", error.__cause__ or error)
            # not all at once, for many may wait for the same store
            await asyncio.sleep(min(left, pause * random.uniform(0.5, 1.0)))
            pause = min(2 * pause, self._last_pause_s)
