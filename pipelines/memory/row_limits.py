"""The memory of a device: how many rows of a size fit into a call, as calls have shown, and what is said of faults."""

import logging
from collections import defaultdict

import torch

from pipelines.errors import DrawingFault, EngineDead

RAISED_AFTER = 500  # full calls that fitted since the limit of their size was lowered
CPU_ALLOCATOR = "DefaultCPUAllocator"  # what torch's error says on the CPU, where it has no class of its own
TOO_LARGE = "the picture does not fit into the memory of the device: ask for a smaller one"

Size = tuple[str, float]  # stage, and cost of a row

log = logging.getLogger("fooocus.engine")


class RowLimits:
    """Limits of the sizes that once did not fit. After many calls that did fit they are raised again, for a neighbour
    on the device may have been too large."""

    def __init__(self) -> None:
        self._lowered: dict[Size, int] = {}
        self._fitted: defaultdict[Size, int] = defaultdict(int)

    def __len__(self) -> int:
        """For how many sizes there is one."""
        return len(self._lowered)

    def at(self, size: Size, cap: int) -> int:
        """The most rows of a size, of which its stage takes at most `cap`."""
        return min(cap, self._lowered.get(size, cap))

    def lower(self, size: Size, rows: int) -> int:
        """That many rows did not fit. Returns how many are tried from now on."""
        self._lowered[size] = max(1, min(self._lowered.get(size, rows), rows // 2))
        self._fitted[size] = 0
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return self._lowered[size]

    def note_fit(self, size: Size, rows: int, cap: int) -> None:
        """That many rows did fit."""
        lowered = self._lowered.get(size)
        if lowered is None or rows < lowered:
            return
        self._fitted[size] += 1
        if self._fitted[size] >= RAISED_AFTER:
            self._fitted[size] = 0
            self._lowered[size] = 2 * lowered
            if 2 * lowered >= cap:
                del self._lowered[size]
            log.info("%d rows of %s are tried again", 2 * lowered, size[0])


def explain(fault: Exception) -> Exception:
    """What a job is told of a fault: that the device is lost or full, where it is that."""
    if isinstance(fault, torch.AcceleratorError):
        return EngineDead(f"the device is lost: {fault}")
    if not out_of_memory(fault):
        return fault
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return DrawingFault(TOO_LARGE)


def out_of_memory(fault: BaseException) -> bool:
    """Whether a device (or the CPU) says that it has no memory left."""
    return isinstance(fault, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(fault, RuntimeError) and CPU_ALLOCATOR in str(fault)
    )
