"""An engine that draws nothing and takes as long as a table says: one call after the other, over all that is drawn."""

import json
import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.errors import JobCancelled
from pipelines.events import Drawn, EngineStats, Event, Step
from pipelines.inputs import Inputs
from pipelines.spec import Spec

COSTS = Path(__file__).with_name("row_costs.json")
SIDE = 64
MEGAPIXEL = 1024 * 1024


@dataclass
class _Job:
    spec: Spec
    rows: float
    on_event: Callable[[Event | BaseException], None]
    step: int = 0


class SleepingDrawer:
    """The part of `pipelines.drawing.Drawer` that a replica uses. points: rows and milliseconds of a call, between
    which it is a straight line; beyond the last, more calls."""

    def __init__(self, points: Sequence[tuple[float, float]]) -> None:
        self._points = points
        self._changed = threading.Condition()
        self._jobs: dict[str, _Job] = {}
        self._calls = self._largest = 0
        self._rows = self._busy_s = 0.0
        self._open = True
        threading.Thread(target=self._draw, daemon=True).start()

    @classmethod
    def read(cls) -> "SleepingDrawer":
        return cls(json.loads(COSTS.read_text())["points"])

    def submit(
        self,
        job_id: str,
        spec: Spec,
        inputs: Inputs,
        on_event: Callable[[Event | BaseException], None],
        *,
        previews: bool = False,
    ) -> None:
        rows = len(spec.seeds) * (2 if spec.guidance.acts else 1) * inputs.size.width * inputs.size.height / MEGAPIXEL
        with self._changed:
            self._jobs[job_id] = _Job(spec, rows, on_event)
            on_event(Step(0, spec.steps))
            self._changed.notify()

    def cancel(self, job_id: str) -> None:
        with self._changed:
            if (job := self._jobs.pop(job_id, None)) is not None:
                job.on_event(JobCancelled("the job was cancelled"))

    def check(self) -> None:
        """It cannot fail."""

    def stats(self) -> EngineStats:
        rows = round(self._rows)
        return EngineStats(
            self._calls, rows, self._largest, len(self._jobs), unet_row_steps=self._rows, busy_s=self._busy_s
        )

    def variants(self) -> tuple[str, ...]:
        return ()

    def close(self) -> None:
        with self._changed:
            self._open = False
            self._changed.notify()

    def _draw(self) -> None:
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._jobs or not self._open)
                if not self._open:
                    return
                called = [*self._jobs.items()]
                rows = sum(job.rows for _, job in called)
                self._changed.wait_for(lambda: not self._open, self._seconds(rows))
                self._calls += 1
                self._rows += rows
                self._busy_s += self._seconds(rows)
                self._largest = max(self._largest, round(rows))
                for name, job in called:
                    self._pass(name, job)

    def _pass(self, name: str, job: _Job) -> None:
        """One of its steps is done."""
        if name not in self._jobs:
            return  # cancelled meanwhile
        job.step += 1
        job.on_event(Step(job.step, job.spec.steps))
        if job.step == job.spec.steps:
            del self._jobs[name]
            job.on_event(Drawn(np.zeros((len(job.spec.seeds), SIDE, SIDE, 3), np.uint8), {}))

    def _seconds(self, rows: float) -> float:
        most, full = self._points[-1]
        if rows >= most:
            return rows / most * full / 1000
        at = bisect_left([point for point, _ in self._points], rows)
        upper_rows, upper = self._points[at]
        if at == 0:
            return upper / 1000
        lower_rows, lower = self._points[at - 1]
        return (lower + (upper - lower) * (rows - lower_rows) / (upper_rows - lower_rows)) / 1000
