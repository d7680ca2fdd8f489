"""Logging what may happen a thousand times a second: one line now and then, which says how many it stands for."""

import logging
import time
from collections.abc import Callable

from gateway.errors import StoreUnavailable

EVERY_S = 10.0


class RateLimitedLog:
    """Lines about one thing, such as a store that is away: at most one in `every_s` seconds. clock: seconds."""

    def __init__(
        self, logger: logging.Logger, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger, self._every_s, self._clock = logger, every_s, clock
        self._next_at = float("-inf")
        self._kept_back = 0

    def warning(self, message: str, *args: object) -> None:
        """Log, unless something was logged less than `every_s` ago."""
        self._log(logging.WARNING, message, *args)

    def info(self, message: str, *args: object) -> None:
        """As `warning`, of what is no fault."""
        self._log(logging.INFO, message, *args)

    def _log(self, level: int, message: str, *args: object) -> None:
        now = self._clock()
        if now < self._next_at:
            self._kept_back += 1
            return
        if self._kept_back:
            message, args = f"{message} (and %d more since the last line)", (*args, self._kept_back)
        self._next_at, self._kept_back = now + self._every_s, 0
        self._logger.log(level, message, *args)


class StoreFaults(logging.Filter):
    """Lets one line in `every_s` seconds through of those about a store that is away, without its traceback.

    Everybody who meets it logs it, each in its own words, and none of them knows of the others. clock: seconds.
    """

    def __init__(self, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every_s, self._clock = every_s, clock
        self._next_at = float("-inf")
        self._kept_back = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged; it is shortened."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if not isinstance(error, StoreUnavailable):
            return True
        now = self._clock()
        if now < self._next_at:
            self._kept_back += 1
            return False
        cause = f": {error.__cause__}".splitlines()[0] if error.__cause__ else ""
        record.msg = f"{record.getMessage()}: {error}{cause} (and {self._kept_back} more since the last line)"
        record.args, record.exc_info, record.exc_text = (), None, None
        self._next_at, self._kept_back = now + self._every_s, 0
        return True
