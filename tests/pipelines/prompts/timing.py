"""How long a call takes by itself, whatever else the machine does meanwhile."""

import gc
import time
from collections.abc import Callable

SOON_S = 0.03  # what is done by then is not measured again
TRIES = 5


def least_seconds(call: Callable[[], object]) -> float:
    """Of the thread's own time: that of the first try which was soon done, or the least of `TRIES`."""
    taken: list[float] = []
    gc.disable()  # or whatever other tests of this process hold is gone through on this thread
    try:
        while not taken or (taken[-1] > SOON_S and len(taken) < TRIES):
            began = time.thread_time()
            call()
            taken.append(time.thread_time() - began)
    finally:
        gc.enable()
    return min(taken)
