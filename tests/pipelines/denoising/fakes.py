"""A stage that only counts, and what it takes to drive an engine with it."""

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.denoising.asks import Advance, Fork, Routine
from pipelines.denoising.engine import Engine
from pipelines.denoising.jobs import Job
from pipelines.events import Progress


@dataclass(frozen=True, eq=False)
class Count:
    """Add one to value."""

    value: int
    key: str = "same"
    rows: int = 1
    owner: str = ""

    @property
    def cost(self) -> float:
        return float(self.rows)


class Counting:
    """Answers value + 1; keeps what each call held; a gate lets a test hold the engine between calls."""

    name = "count"

    def __init__(self, cap: int = 8) -> None:
        self.calls: list[list[Count]] = []
        self.gate = threading.Semaphore(10**9)
        self._cap = cap

    def cap(self, ask: Count) -> int:
        return self._cap

    def run(self, asks: Sequence[Count]) -> list[int]:
        if not self.gate.acquire(timeout=20):
            raise TimeoutError("the test forgot the engine")
        self.calls.append(list(asks))
        if any(ask.value < 0 for ask in asks):
            raise ValueError("negative")
        return [ask.value + 1 for ask in asks]


class Listener:
    """Collects the events of one job."""

    def __init__(self) -> None:
        self.events: queue.Queue[Any] = queue.Queue()
        self.steps: list[Progress] = []

    def __call__(self, event: Any) -> None:
        self.events.put(event)

    def last(self) -> Any:
        while True:
            event = self.events.get(timeout=20)
            if not isinstance(event, Progress):
                return event
            self.steps.append(event)


def climb(steps: int, start: int = 0, **ask: Any) -> Routine:
    value = start
    for done in range(steps):
        value = yield Count(value, **ask)
        yield Advance(done + 1)
    return value


def forked(*routines: Routine) -> Routine:
    results = yield Fork(routines)
    return results


def submit(engine: Engine, name: str, routine: Routine, steps: int = 1) -> tuple[Job, Listener]:
    listener = Listener()
    job = Job(name, lambda: routine, lambda result, timings: (result, timings), steps, listener)  # type: ignore[arg-type,return-value]
    engine.submit(job)
    return job, listener


def hold(stage: Counting) -> None:
    stage.gate = threading.Semaphore(0)
