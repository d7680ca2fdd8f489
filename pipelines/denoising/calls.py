"""Calls: runs the asks of one call, and finds out whose fault it is when that does not work.

A call that raises is tried ask by ask, so that the one which poisons it fails alone; an answer that is not finite is
asked for again alone, because its neighbours may have spoilt it. A call that does not fit into memory lowers the cap of
its size and is tried in halves; after many calls that did fit the cap goes up again, for it may have been a neighbour
on the device that was too large. A device that is lost ends the engine.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipelines.denoising.asks import Ask, Stage
from pipelines.errors import DrawingFault, EngineDead

log = logging.getLogger("fooocus.engine")

Size = tuple[str, float]  # stage, and cost of a row

RAISED_AFTER = 500  # full calls that fitted since the cap of their size was lowered

CPU_ALLOCATOR = "DefaultCPUAllocator"  # what torch's error says on the CPU, where it has no class of its own


@dataclass(eq=False)
class Tally:
    """Counts of one stage's calls. largest: rows of the largest call."""

    calls: int = 0
    rows: int = 0
    largest: int = 0


class Caller:
    """Makes the calls of one engine, on its thread. began: called before each call, for whoever watches its time."""

    def __init__(self, began: Callable[[], None]) -> None:
        self._began = began
        self._lowered: dict[Size, int] = {}
        self._fitted: defaultdict[Size, int] = defaultdict(int)
        self.tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self.retried = 0

    @property
    def lowered(self) -> int:
        """For how many sizes the cap has been lowered."""
        return len(self._lowered)

    def cap(self, stage: Stage, ask: Ask) -> int:
        """The most rows that a call with this ask may hold, by its stage and by what has fitted so far."""
        return min(stage.cap(ask), self._lowered.get(_size(stage, ask), stage.cap(ask)))

    def run(self, stage: Stage, asks: Sequence[Ask]) -> list[Any]:
        """An answer for each ask, in their order; an exception in its place where there is none.

        Raises EngineDead when the device is lost: after such an error every call fails, until the process ends.
        """
        too_large = None
        try:
            answers = self._call(stage, asks)
        except torch.AcceleratorError as fault:
            raise EngineDead(f"the device is lost: {fault}") from fault
        except Exception as fault:
            if not out_of_memory(fault):
                if len(asks) == 1:
                    return [fault]
                log.warning("a call of %s with %d asks failed, trying them alone: %s", stage.name, len(asks), fault)
                return self._alone(stage, asks)
            too_large = str(fault)  # no more of it: its frames hold what the call had allocated
        if too_large is not None:
            return self._smaller(stage, asks, too_large)
        sound = _finite(answers)
        if all(sound):
            return answers
        if len(asks) == 1:
            return [DrawingFault(f"the stage {stage.name} gave values that are not finite")]
        log.warning("a call of %s with %d asks gave values that are not finite", stage.name, len(asks))
        again = iter(self._alone(stage, [ask for ask, whole in zip(asks, sound, strict=True) if not whole]))
        return [answer if whole else next(again) for answer, whole in zip(answers, sound, strict=True)]

    def _call(self, stage: Stage, asks: Sequence[Ask]) -> list[Any]:
        self._began()
        answers = list(stage.run(asks))
        if len(answers) != len(asks):
            raise RuntimeError(f"{stage.name} gave {len(answers)} answers to {len(asks)} asks")
        tally = self.tallies[stage.name]
        rows = sum(ask.rows for ask in asks)
        tally.calls += 1
        tally.rows += rows
        tally.largest = max(tally.largest, rows)
        self._fits(stage, asks[0], rows)
        return answers

    def _fits(self, stage: Stage, ask: Ask, rows: int) -> None:
        size = _size(stage, ask)
        lowered = self._lowered.get(size)
        if lowered is None or rows < lowered:
            return
        self._fitted[size] += 1
        if self._fitted[size] >= RAISED_AFTER:
            self._fitted[size] = 0
            self._lowered[size] = 2 * lowered
            if 2 * lowered >= stage.cap(ask):
                del self._lowered[size]
            log.info("%d rows of %s are tried again", 2 * lowered, stage.name)

    def _alone(self, stage: Stage, asks: Sequence[Ask]) -> list[Any]:
        self.retried += len(asks)
        return [answer for ask in asks for answer in self.run(stage, [ask])]

    def _smaller(self, stage: Stage, asks: Sequence[Ask], fault: str) -> list[Any]:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(asks) == 1:
            log.error("one ask of %s does not fit into memory: %s", stage.name, fault)
            return [DrawingFault("the picture does not fit into the memory of the device: ask for a smaller one")]
        rows = sum(ask.rows for ask in asks)
        size = _size(stage, asks[0])
        self._lowered[size] = max(1, min(self._lowered.get(size, rows), rows // 2))
        self._fitted[size] = 0
        log.warning("%d rows of %s do not fit into memory: %d from now on", rows, stage.name, self._lowered[size])
        half = len(asks) // 2
        self.retried += len(asks)
        return [*self.run(stage, asks[:half]), *self.run(stage, asks[half:])]


def out_of_memory(fault: BaseException) -> bool:
    """Whether a device (or the CPU) says that it has no memory left."""
    return isinstance(fault, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(fault, RuntimeError) and CPU_ALLOCATOR in str(fault)
    )


def _size(stage: Stage, ask: Ask) -> Size:
    return stage.name, ask.cost / ask.rows


def _finite(answers: Sequence[Any]) -> list[bool]:
    """Which answers are finite tensors or no tensors at all; the device is waited for once."""
    tensors = [answer for answer in answers if isinstance(answer, Tensor)]
    if len(tensors) < len(answers):
        return [True] * len(answers)
    found: list[bool] = torch.stack([tensor.isfinite().all() for tensor in tensors]).tolist()
    return found
