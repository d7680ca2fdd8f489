"""An engine that sleeps: calls of several rows, whose cost is data, and pictures of one colour."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipelines.errors import JobCancelled
from pipelines.events import Drawn, EngineStats, Event, Step
from pipelines.inputs import Inputs
from pipelines.row_steps import UNIT
from pipelines.spec import Spec


@dataclass(slots=True)
class _Job:
    spec: Spec
    rows: int
    row_steps: float  # of one call
    picture: tuple[int, int]
    on_event: Callable[[Event | BaseException], None]
    done: int = 0
    cancelled: bool = False


class SleepingDrawer:
    """The part of `pipelines.drawing.Drawer` that a replica uses.

    ms_per_row_step: what a row of 1024 x 1024 pixels takes. rows: the most in one call; jobs take turns.
    """

    def __init__(self, ms_per_row_step: float, rows: int) -> None:
        self._ms, self._most = ms_per_row_step, rows
        self._jobs: dict[str, _Job] = {}
        self._calls = self._rows = 0
        self._row_steps = self._busy_s = 0.0
        self._changed = threading.Condition()
        threading.Thread(target=self._run, daemon=True).start()

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
        size = inputs.size
        job = _Job(spec, rows, rows * size.width * size.height / UNIT, (size.height, size.width), on_event)
        with self._changed:
            self._jobs[job_id] = job
            self._changed.notify()
        on_event(Step(0, spec.steps))

    def cancel(self, job_id: str) -> None:
        with self._changed:
            if (job := self._jobs.pop(job_id, None)) is not None:
                job.cancelled = True
                job.on_event(JobCancelled("the job was cancelled"))

    def check(self) -> None:
        """It cannot fail."""

    def stats(self) -> EngineStats:
        return EngineStats(
            unet_calls=self._calls,
            unet_rows=self._rows,
            largest_call=self._most,
            live_jobs=len(self._jobs),
            unet_row_steps=self._row_steps,
            busy_s=self._busy_s,
        )

    def variants(self) -> tuple[str, ...]:
        return ()

    def close(self) -> None:
        """It holds nothing."""

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._jobs))
                called = self._next()
            began, row_steps = time.monotonic(), sum(job.row_steps for job in called.values())
            time.sleep(row_steps * self._ms / 1000)
            self._calls, self._rows = self._calls + 1, self._rows + sum(job.rows for job in called.values())
            self._row_steps += row_steps
            self._busy_s += time.monotonic() - began
            for name, job in called.items():
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
        with self._changed:
            if job.cancelled:
                return
            job.done += 1
            if job.done < job.spec.steps:
                job.on_event(Step(job.done, job.spec.steps))
                return
            del self._jobs[name]
        pictures = [np.full((*job.picture, 3), seed % 256, np.uint8) for seed in job.spec.seeds]
        job.on_event(Drawn(np.stack(pictures), {}))
