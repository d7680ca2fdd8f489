"""A watchdog: says that something which a thread began has not ended in time, for the thread itself cannot."""

import threading
import time
from collections.abc import Callable


class Watchdog:
    """Calls `bark`, once and on its own thread, when what `begin` said to begin has not ended after `limit_s`."""

    def __init__(self, limit_s: float, bark: Callable[[], None]) -> None:
        self._limit_s, self._bark = limit_s, bark
        self._began: float | None = None
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def begin(self) -> None:
        self._began = time.monotonic()

    def end(self) -> None:
        self._began = None

    def close(self) -> None:
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(min(1.0, self._limit_s / 4)):
            began = self._began
            if began is not None and time.monotonic() - began > self._limit_s:
                self._bark()
                return
