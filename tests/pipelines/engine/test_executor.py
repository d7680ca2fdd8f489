"""Calls that go wrong: who is to blame is found, and nobody else suffers."""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from pipelines.engine.executor import Executor, Outcome
from pipelines.engine.tasks import Answers, Ask, Stage, Task
from pipelines.errors import DrawingFault, EngineDead
from tests.pipelines.engine.fakes import climb, job, waiting


@dataclass(frozen=True, eq=False)
class Double(Ask[float]):
    """Twice the value. rows x side is its cost."""

    value: float = 0.0
    rows: int = 1
    side: float = 4.0
    key: str = "same"

    @property
    def cost(self) -> float:
        return self.rows * self.side


class Doubling(Stage[Double, float]):
    """Does not hold more than `memory` in a call; what is negative breaks it."""

    name = "double"
    asked = Double

    def __init__(self, memory: float = 1e9) -> None:
        self.memory = memory
        self.calls: list[list[float]] = []

    def cap(self, ask: Double) -> int:
        return 16

    def run(self, asks: Sequence[Double]) -> Answers[float]:
        self.calls.append([ask.value for ask in asks])
        if sum(ask.cost for ask in asks) > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if any(ask.value < 0 for ask in asks):
            raise ValueError("negative")
        return Answers([2 * ask.value for ask in asks], torch.tensor([2 * ask.value for ask in asks]))


class Acting(Doubling):
    """Does in a call what a test gives it."""

    def __init__(self, act: Callable[[Sequence[Double]], Sequence[float]]) -> None:
        super().__init__()
        self._act = act

    def run(self, asks: Sequence[Double]) -> Answers[float]:
        return Answers(self._act(asks))


def executor_of(stage: Doubling) -> Executor:
    return Executor([stage], lambda: None)


def tasks(*asks: Double) -> list[Task]:
    owner, _ = job("owner", lambda: climb(1))
    return [waiting(owner, asked) for asked in asks]


def values(outcome: Outcome) -> list[float | str]:
    return [str(answer) if isinstance(answer, Exception) else answer for _, answer in outcome.answers]  # type: ignore[misc]


def run(executor: Executor, *asks: Double) -> list[float | str]:
    """What became of asks, in their order."""
    asking = tasks(*asks)
    outcome = executor.run(asking)
    assert [task for task, _ in outcome.answers] == asking
    return values(outcome)


def some(*numbers: float) -> list[Double]:
    return [Double(number) for number in numbers]


def test_answers_come_in_the_order_of_the_asks() -> None:
    assert run(executor_of(Doubling()), *some(3, 1, 2)) == [6, 2, 4]


def test_without_asks_nothing_is_called() -> None:
    stage = Doubling()
    assert run(executor_of(stage)) == []
    assert stage.calls == []


def test_an_ask_that_raises_is_found_by_running_each_alone() -> None:
    executor = executor_of(Doubling())
    assert run(executor, *some(1, -1, 2)) == [2, "negative", 4]
    assert executor.retried == 3


def test_what_is_to_be_finite_is_told_beside_the_tasks_that_it_is_of() -> None:
    executor = executor_of(Doubling())
    asking = tasks(*some(1, -1, float("inf")))
    checks = executor.run(asking).checks
    assert [(list(of), largest.tolist()) for of, largest in checks] == [
        ([asking[0]], [2.0]),
        ([asking[2]], [float("inf")]),
    ]


def test_answers_that_need_no_check_have_none() -> None:
    assert executor_of(Acting(lambda asks: [0.0] * len(asks))).run(tasks(*some(1, 2))).checks == []


def test_a_call_that_does_not_fit_is_made_in_halves() -> None:
    stage = Doubling(memory=8.0)
    assert run(executor_of(stage), *some(0, 1, 2, 3, 4)) == [0, 2, 4, 6, 8]
    assert stage.calls == [[0, 1, 2, 3, 4], [0, 1], [2, 3, 4], [2], [3, 4]]


def test_what_did_not_fit_is_not_tried_again_for_this_size() -> None:
    executor = executor_of(Doubling(memory=8.0))
    run(executor, *some(0, 1, 2, 3))
    assert executor.room(Double(1)) == 2
    assert executor.room(Double(1, side=1.0)) == 16
    assert len(executor.limits) == 1


def test_a_lowered_cap_is_tried_again_after_many_calls_that_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been something else on the device that was too large for a moment."""
    monkeypatch.setattr("pipelines.memory.row_limits.RAISED_AFTER", 3)
    stage = Doubling(memory=8)
    executor = executor_of(stage)
    run(executor, *[Double(1)] * 4)
    assert executor.room(Double(1)) == 2
    stage.memory = 1e9
    for _ in range(2):
        run(executor, *[Double(1)] * 2)
        run(executor, Double(1))  # tells nothing of whether two fit
    assert executor.room(Double(1)) == 4  # the halves of the first call were one of the three


def lowered() -> tuple[Executor, Doubling]:
    """An executor that found out that two rows fit and four do not, and the stage with the memory free again."""
    stage = Doubling(memory=8)
    executor = executor_of(stage)
    run(executor, *[Double(1)] * 4)
    assert executor.room(Double(1)) == 2
    stage.memory = 1e9
    return executor, stage


def test_a_lowered_room_grows_after_some_hundred_full_calls_and_goes_on_growing() -> None:
    executor, _ = lowered()
    for _ in range(400):
        run(executor, *[Double(1)] * 2)
    assert executor.room(Double(1)) == 2
    for _ in range(200):
        run(executor, *[Double(1)] * 2)
    assert executor.room(Double(1)) == 4
    for wide in (4, 8):
        for _ in range(600):
            run(executor, *[Double(1)] * wide)
    assert executor.room(Double(1)) == 16
    assert len(executor.limits) == 0


@pytest.mark.parametrize(
    "asks", [some(1), [Double(1, side=2.0)] * 2, some(-1, -1)], ids=["not full", "of another size", "failing"]
)
def test_a_lowered_room_grows_by_nothing_but_full_calls_that_fit(asks: list[Double]) -> None:
    executor, _ = lowered()
    for _ in range(1200):
        run(executor, *asks)
    assert executor.room(Double(1)) == 2


def test_a_call_that_does_not_fit_begins_the_count_again() -> None:
    executor, stage = lowered()
    for _ in range(400):
        run(executor, *[Double(1)] * 2)
    stage.memory = 4
    run(executor, *[Double(1)] * 2)
    assert executor.room(Double(1)) == 1
    stage.memory = 1e9
    for _ in range(400):
        run(executor, Double(1))
    assert executor.room(Double(1)) == 1


def test_nothing_of_a_call_that_did_not_fit_is_held_while_it_is_tried_again() -> None:
    held: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def act(asks: Sequence[Double]) -> list[float]:
        alive.append(sum(each() is not None for each in held))
        activation = torch.zeros(4)
        held.append(weakref.ref(activation))
        if len(asks) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [ask.value for ask in asks]

    assert run(executor_of(Acting(act)), *some(1, 2, 3, 4)) == [1, 2, 3, 4]
    assert alive == [0] * 7


def test_a_lost_device_ends_the_engine() -> None:
    """Every call after such an error fails: each job would be told that it is its own fault."""

    def act(asks: Sequence[Double]) -> list[float]:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(EngineDead, match="illegal memory access"):
        executor_of(Acting(act)).run(tasks(*some(1, 2)))


def test_the_rows_of_a_guided_pair_count_for_its_cap() -> None:
    executor = executor_of(Doubling(memory=8.0))
    run(executor, Double(1, rows=2), Double(2, rows=2))
    assert executor.room(Double(1, rows=2)) == 2


def test_an_ask_that_never_fits_fails_with_advice() -> None:
    (_, small), (_, big) = executor_of(Doubling(memory=8.0)).run(tasks(Double(1), Double(2, rows=3))).answers
    assert isinstance(big, DrawingFault)
    assert "smaller" in str(big)
    assert small == 2


@pytest.mark.parametrize(
    "fault", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")], ids=repr
)
def test_the_cpus_ways_to_say_it_are_known(fault: Exception) -> None:
    def act(asks: Sequence[Double]) -> list[float]:
        if len(asks) > 1:
            raise fault
        return [2 * ask.value for ask in asks]

    executor = executor_of(Acting(act))
    assert run(executor, *some(1, 2)) == [2, 4]
    assert executor.room(Double(1)) == 1


def test_answers_of_any_kind_are_taken_as_they_are() -> None:
    words: list[Any] = ["a", "b"]
    assert run(executor_of(Acting(lambda asks: words)), *some(1, 2)) == ["a", "b"]


def test_a_stage_that_loses_an_answer_is_found_out() -> None:
    (answer,) = run(executor_of(Acting(lambda asks: [])), Double(1))
    assert "gave 0 answers to 1 asks" in str(answer)


def test_calls_that_were_answered_are_counted() -> None:
    executor = executor_of(Doubling(memory=8.0))
    run(executor, *some(0, 1, 2, 3))
    assert (executor.calls["double"], executor.rows["double"], executor.largest["double"]) == (2, 4, 2)


def test_whoever_watches_the_time_hears_of_each_call() -> None:
    heard = []
    Executor([Doubling(memory=8.0)], lambda: heard.append(1)).run(tasks(*some(0, 1, 2, 3)))
    assert len(heard) == 3
