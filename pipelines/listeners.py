"""The listeners of jobs, told on a thread of their own: one that is slow or fails harms nobody who draws."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pipelines.events import Event

OnEvent = Callable[[Event | BaseException], None]

log = logging.getLogger("fooocus.engine")


class Listeners:
    """Tells listeners, in the order in which they are to be told. For any thread."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "listeners")

    def tell(self, on_event: OnEvent, event: Event | BaseException) -> None:
        self._thread.submit(_tell, on_event, event)

    def tell_made(self, on_event: OnEvent, make: Callable[[], Event]) -> None:
        """Make an event on the listeners' thread, and tell it, or what it raises."""
        self._thread.submit(_tell_made, on_event, make)

    def close(self) -> None:
        """Everything is told before this returns."""
        self._thread.shutdown()


def _tell(on_event: OnEvent, event: Event | BaseException) -> None:
    try:
        on_event(event)
    except Exception:
        log.exception("a listener failed")


def _tell_made(on_event: OnEvent, make: Callable[[], Event]) -> None:
    try:
        event: Event | BaseException = make()
    except Exception as fault:
        log.exception("a job's last event was not made")
        event = fault
    _tell(on_event, event)
