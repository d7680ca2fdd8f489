"""A stage that only counts, and what it takes to drive an engine with it."""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor as Workers
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipelines.engine.engine import Engine
from pipelines.engine.tasks import Advance, Answers, Ask, Fork, Job, Last, Routine, Stage, Task, ask
from pipelines.events import Step


@dataclass(frozen=True, eq=False)
class Count(Ask[int]):
    """Add one to value."""

    value: int = 0
    key: str = "same"
    rows: int = 1
    owner: str = ""

    @property
    def cost(self) -> float:
        return float(self.rows)


class Counting(Stage[Count, int]):
    """Answers value + 1; keeps what each call held; a gate lets a test hold the engine between calls."""

    name = "count"
    asked = Count

    def __init__(self, cap: int = 8) -> None:
        self.calls: list[list[Count]] = []
        self.gate = threading.Semaphore(10**9)
        self._cap = cap

    def cap(self, ask: Count) -> int:
        return self._cap

    def run(self, asks: Sequence[Count]) -> Answers[int]:
        if not self.gate.acquire(timeout=20):
            raise TimeoutError("the test forgot the engine")
        self.calls.append(list(asks))
        if any(ask.value < 0 for ask in asks):
            raise ValueError("negative")
        return Answers([ask.value + 1 for ask in asks], self.largest(asks))

    def largest(self, asks: Sequence[Count]) -> Tensor | None:
        """What of the answers is held to be finite."""
        return None


class Spoiling(Counting):
    """Its answers are not finite while `spoils` says so of an ask in the company of a call."""

    def __init__(self, spoils: Callable[[Count, Sequence[Count]], bool], cap: int = 8) -> None:
        super().__init__(cap)
        self._spoils = spoils

    def largest(self, asks: Sequence[Count]) -> Tensor:
        return torch.tensor([float("nan") if self._spoils(ask, asks) else 1.0 for ask in asks])


@dataclass(frozen=True, eq=False)
class Paint(Ask[int]):
    """Asked for once, at the end of a job."""

    value: int


class Painting(Stage[Paint, int]):
    """Answers the value. What it makes is not checked, as that of the VAE is not."""

    name = "paint"
    asked = Paint

    def __init__(self) -> None:
        self.painted: list[int] = []

    def run(self, asks: Sequence[Paint]) -> Answers[int]:
        self.painted += [ask.value for ask in asks]
        return Answers([ask.value for ask in asks])


class AtOnce(Workers):
    """Does what it is given where it is given."""

    def submit(self, act: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(act(*args, **named))
        return future


class Listener:
    """Collects the events of one job."""

    def __init__(self) -> None:
        self.events: queue.Queue[Any] = queue.Queue()
        self.steps: list[Step] = []

    def __call__(self, event: Any) -> None:
        self.events.put(event)

    def last(self) -> Any:
        while True:
            event = self.events.get(timeout=20)
            if not isinstance(event, Step):
                return event
            self.steps.append(event)


def climb(steps: int, start: int = 0, **given: Any) -> Routine[int]:
    value = start
    for done in range(steps):
        value = yield from ask(Count(value, **given))
        yield from ask(Advance(done + 1))
    return value


def painted(routine: Routine[int]) -> Routine[int]:
    value = yield from routine
    return (yield from ask(Paint(value)))


def forked(*routines: Routine[int]) -> Routine[list[int]]:
    return (yield from ask(Fork(routines)))


def told(routine: Routine[Any]) -> Routine[Last]:
    """The routine of a job whose last event is the result, with the seconds of its stages."""
    result = yield from routine
    last: Any = lambda timings: (result, timings)  # noqa: E731
    return last


def job(name: str, routine: Callable[[], Routine[Any]], steps: int = 1) -> tuple[Job, Listener]:
    """routine: makes what the job does, each time that it is begun."""
    listener = Listener()
    return Job(name, lambda: lambda: told(routine()), steps, listener), listener


def submit(engine: Engine, name: str, routine: Callable[[], Routine[Any]], steps: int = 1) -> Listener:
    submitted, listener = job(name, routine, steps)
    engine.submit(submitted, AtOnce())
    return listener


def waiting(owner: Job, asked: Ask[Any]) -> Task:
    """A task of a job that waits for what it asked."""
    return Task(owner, climb(1), asked=asked)


def hold(stage: Counting) -> None:
    stage.gate = threading.Semaphore(0)
