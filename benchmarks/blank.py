"""A drawer that draws nothing and takes its time, so that a benchmark measures what is around it."""

import threading
from collections.abc import Callable

import numpy as np

from pipelines.errors import JobCancelled
from pipelines.events import Drawn, EngineStats, Event, Step
from pipelines.inputs import Inputs
from pipelines.spec import Spec
from pipelines.weights.at_hand import Weights

SIDE = 64


class BlankDrawer:
    """The part of `pipelines.drawing.Drawer` that a replica uses. seconds: of each drawing, however many there are."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._cancelled: dict[str, threading.Event] = {}
        self._steps = 0

    def submit(
        self,
        job_id: str,
        spec: Spec,
        inputs: Inputs,
        on_event: Callable[[Event | BaseException], None],
        *,
        previews: bool = False,
    ) -> None:
        self._cancelled[job_id] = cancelled = threading.Event()
        threading.Thread(target=self._draw, args=(job_id, spec, cancelled, on_event), daemon=True).start()

    def _draw(
        self, job_id: str, spec: Spec, cancelled: threading.Event, on_event: Callable[[Event | BaseException], None]
    ) -> None:
        for step in range(spec.steps + 1):
            on_event(Step(step, spec.steps))
            if step < spec.steps and cancelled.wait(self._seconds / spec.steps):
                on_event(JobCancelled("the job was cancelled"))
                return
        self._steps += spec.steps
        self._cancelled.pop(job_id, None)
        on_event(Drawn(np.zeros((len(spec.seeds), SIDE, SIDE, 3), np.uint8), {}))

    def cancel(self, job_id: str) -> None:
        if (cancelled := self._cancelled.pop(job_id, None)) is not None:
            cancelled.set()

    def check(self) -> None:
        """It cannot fail."""

    def stats(self) -> EngineStats:
        return EngineStats(self._steps, self._steps, 1, len(self._cancelled))

    def variants(self) -> tuple[str, ...]:
        return ()

    def holds(self) -> tuple[Weights, ...]:
        return ()

    def close(self) -> None:
        """It holds nothing."""
