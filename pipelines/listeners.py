"""The listeners of jobs, told on a thread of their own: one that is slow or fails harms nobody who draws."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pipelines.events import Event, Step

PROGRESS_S = 0.25  # at least, between two `Step` of a job

OnEvent = Callable[[Event | BaseException], None]

log = logging.getLogger("fooocus.engine")


class Listeners:
    """Tells the listeners of jobs, each in the order in which it is to be told. For any thread."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "listeners")
        self._told: dict[str, tuple[int, float]] = {}  # by job: its last `Step`, and when
        self._lock = threading.Lock()  # of the above: nothing is told after a last event

    def begin(self, job: str) -> None:
        """A job comes up: its progress is told, until its last event is."""
        with self._lock:
            self._told[job] = -1, 0.0

    def tell_progress(self, job: str, on_event: OnEvent, progress: Step) -> None:
        """A job has come on; its listener hears of it now and then, and of its last step in any case."""
        now = time.monotonic()
        with self._lock:
            step, at = self._told.get(job, (progress.steps, now))
            if progress.step > step and (now - at >= PROGRESS_S or progress.step == progress.steps):
                self._told[job] = progress.step, now
                self._thread.submit(_tell, on_event, progress)

    def tell_last(self, job: str, on_event: OnEvent, make: Callable[[], Event | BaseException]) -> None:
        """A job's last event, which is made on the listeners' thread; what making it raises is told instead."""
        with self._lock:
            self._told.pop(job, None)
            self._thread.submit(_tell_made, on_event, make)

    def close(self) -> None:
        """Everything is told before this returns."""
        self._thread.shutdown()


def _tell(on_event: OnEvent, event: Event | BaseException) -> None:
    try:
        on_event(event)
    except Exception:
        log.exception("a listener failed")


def _tell_made(on_event: OnEvent, make: Callable[[], Event | BaseException]) -> None:
    try:
        event = make()
    except Exception as fault:
        log.exception("a job's last event was not made")
        event = fault
    _tell(on_event, event)
