"""What a start says: each line with the seconds since its beginning, and again while a step takes long."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

REPEAT_S = 10.0


class Starting:
    """The lines of one start. repeat_s: after so long without another one, a step says that it still goes on."""

    def __init__(self, repeat_s: float = REPEAT_S) -> None:
        self._since, self._repeat_s = monotonic(), repeat_s

    def say(self, line: str) -> None:
        print(f"{monotonic() - self._since:4.0f} s  {line}", flush=True)

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Say that `what` begins, and from time to time that it goes on."""
        over = threading.Event()

        def repeat() -> None:
            while not over.wait(self._repeat_s):
                self.say(f"{what} goes on ...")

        self.say(f"{what} ...")
        repeating = threading.Thread(target=repeat, name="starting", daemon=True)
        repeating.start()
        try:
            yield
        finally:
            over.set()
            repeating.join()
