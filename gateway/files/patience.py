"""Storing what is worth waiting for: tried again for minutes while the store is away."""

import asyncio
import logging
import random
import time
from collections.abc import Callable

from gateway.errors import StoreUnavailable
from gateway.files.base import Files, FileTerms
from gateway.rate_limited_log import RateLimitedLog

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
