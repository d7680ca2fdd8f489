"""The clock of a device: how long work takes on it, and how long its host is held."""

import statistics
import time
from collections.abc import Callable

import torch

WARM_UPS = 2
ENOUGH_S, MOST_CALLS = 1.0, 20  # a measured mean is over this long or this many calls, whichever ends first
HOST_CALLS = 5
RATES = 5  # the best counts


class DeviceClock:
    """Measures on one device. hasty: a hundredth of the time, for trying a benchmark."""

    def __init__(self, device: torch.device, *, hasty: bool) -> None:
        self._device = device
        self._enough_s = ENOUGH_S / 100 if hasty else ENOUGH_S

    def wait(self) -> None:
        """Wait until the device has done all that it was told."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def ms(self, act: Callable[[], object]) -> float:
        """Mean milliseconds of an act that follows its like."""
        for _ in range(WARM_UPS):
            act()
        self.wait()
        began, calls = time.perf_counter(), 0
        while calls < MOST_CALLS and time.perf_counter() - began < self._enough_s:
            act()
            calls += 1
            if calls % 5 == 0:  # else the queue of the device runs ahead of the clock
                self.wait()
        self.wait()
        return (time.perf_counter() - began) / calls * 1e3

    def host_ms(self, act: Callable[[], object]) -> float:
        """Milliseconds until an act returns, whose device is idle before: its median. What the device is still doing
        then does not count."""
        found = []
        for _ in range(HOST_CALLS):
            self.wait()
            began = time.perf_counter()
            act()
            found.append(time.perf_counter() - began)
        self.wait()
        return statistics.median(found) * 1e3

    def matrix_rate(self, dtype: torch.dtype) -> float:
        """Operations a second of a large square matrix product."""
        side = 8192 if self._device.type == "cuda" else 512
        one, other = (torch.randn(side, side, device=self._device, dtype=dtype) for _ in range(2))
        return 2 * side**3 / min(self.ms(lambda: one @ other) for _ in range(RATES)) * 1e3


def seconds(act: Callable[[], object]) -> float:
    """Of an act that leaves nothing on the device: it ends with pixels in memory."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began
