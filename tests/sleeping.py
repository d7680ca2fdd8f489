"""An engine that sleeps: calls of several rows that take as long as a table says, and pictures without content."""

import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from pipelines.errors import JobCancelled
from pipelines.events import Drawn, EngineStats, Event, Step
from pipelines.inputs import Inputs
from pipelines.row_steps import UNIT
from pipelines.spec import Spec
from pipelines.weights.at_hand import Weights

SIDE = 64


@dataclass(slots=True)
class _Job:
    spec: Spec
    rows: int
    row_steps: float  # of one call
    on_event: Callable[[Event | BaseException], None]
    done: int = 0


class SleepingDrawer:
    """The part of `pipelines.drawing.Drawer` that a replica uses.

    points: rows of 1024 x 1024 pixels in a call and its milliseconds, between which it is a straight line; beyond the
    last, more calls. rows: the most in one call; jobs take turns.
    """

    def __init__(self, points: Sequence[tuple[float, float]], rows: float = inf) -> None:
        self._points, self._most = points, rows
        self._jobs: dict[str, _Job] = {}
        self._calls = self._rows = self._largest = 0
        self._row_steps = self._busy_s = 0.0
        self._open = True
        self._changed = threading.Condition()
        threading.Thread(target=self._draw, daemon=True).start()

    def submit(
        self,
        job_id: str,
        spec: Spec,
        inputs: Inputs,
        on_event: Callable[[Event | BaseException], None],
        *,
        previews: bool = False,
    ) -> None:
        rows = len(spec.seeds) * (2 if spec.guidance.acts else 1)
        with self._changed:
            self._jobs[job_id] = _Job(spec, rows, rows * inputs.size.width * inputs.size.height / UNIT, on_event)
            on_event(Step(0, spec.steps))
            self._changed.notify()

    def cancel(self, job_id: str) -> None:
        with self._changed:
            if (job := self._jobs.pop(job_id, None)) is not None:
                job.on_event(JobCancelled("the job was cancelled"))

    def check(self) -> None:
        """It cannot fail."""

    def stats(self) -> EngineStats:
        return EngineStats(
            unet_calls=self._calls,
            unet_rows=self._rows,
            largest_call=self._largest,
            live_jobs=len(self._jobs),
            unet_row_steps=self._row_steps,
            busy_s=self._busy_s,
        )

    def variants(self) -> tuple[str, ...]:
        return ()

    def holds(self) -> tuple[Weights, ...]:
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
                called = self._next()
                row_steps, rows = (
                    sum(job.row_steps for job in called.values()),
                    sum(job.rows for job in called.values()),
                )
                seconds = self._seconds(row_steps)
                self._changed.wait_for(lambda: not self._open, seconds)
                self._calls, self._rows, self._largest = self._calls + 1, self._rows + rows, max(self._largest, rows)
                self._row_steps, self._busy_s = self._row_steps + row_steps, self._busy_s + seconds
                for name, job in called.items():
                    if self._jobs.get(name) is job:  # not cancelled meanwhile
                        self._move(name, job)

    def _next(self) -> dict[str, _Job]:
        called: dict[str, _Job] = {}
        for name, job in self._jobs.items():
            if called and sum(one.rows for one in called.values()) + job.rows > self._most:
                break
            called[name] = job
        for name in called:  # to the end, so that those left out are next
            self._jobs[name] = self._jobs.pop(name)
        return called

    def _move(self, name: str, job: _Job) -> None:
        job.done += 1
        job.on_event(Step(job.done, job.spec.steps))
        if job.done == job.spec.steps:
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
