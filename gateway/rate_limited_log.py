"""Logging what may happen a thousand times a second: one line now and then, which says how many it stands for."""

import logging
import time
from collections.abc import Callable

EVERY_S = 10.0


class RateLimitedLog:
    """Warnings about one thing, such as a store that is away: at most one in `every_s` seconds. clock: seconds."""

    def __init__(
        self, logger: logging.Logger, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger, self._every_s, self._clock = logger, every_s, clock
        self._next_at = float("-inf")
        self._kept_back = 0

    def warning(self, message: str, *args: object) -> None:
        """Log, unless something was logged less than `every_s` ago."""
        now = self._clock()
        if now < self._next_at:
            self._kept_back += 1
            return
        if self._kept_back:
            message, args = f"{message} (and %d more since the last line)", (*args, self._kept_back)
        self._next_at, self._kept_back = now + self._every_s, 0
        self._logger.warning(message, *args)
