"""Calls that go wrong: who is to blame is found, and nobody else suffers."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from pipelines.denoising.calls import Caller
from pipelines.errors import DrawingFault


@dataclass(frozen=True, eq=False)
class Double:
    """Twice the value. rows x side is its cost."""

    value: float
    rows: int = 1
    side: float = 4.0
    key: str = "same"

    @property
    def cost(self) -> float:
        return self.rows * self.side


class Doubling:
    """Does not hold more than `memory` in a call; what is negative breaks it; an infinity spoils all rows."""

    name = "double"

    def __init__(self, memory: float = 1e9) -> None:
        self.memory = memory
        self.calls: list[list[float]] = []

    def cap(self, ask: Double) -> int:
        return 16

    def run(self, asks: Sequence[Double]) -> list[Tensor]:
        self.calls.append([ask.value for ask in asks])
        if sum(ask.cost for ask in asks) > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if any(ask.value < 0 for ask in asks):
            raise ValueError("negative")
        spoilt = any(ask.value == float("inf") for ask in asks)
        return [torch.full((2,), float("nan") if spoilt else 2 * ask.value) for ask in asks]


@pytest.fixture
def caller() -> Caller:
    return Caller(lambda: None)


def values(answers: Sequence[Tensor | Exception]) -> list[float | str]:
    return [answer[0].item() if isinstance(answer, Tensor) else str(answer) for answer in answers]


def test_answers_come_in_the_order_of_the_asks(caller: Caller) -> None:
    assert values(caller.run(Doubling(), [Double(3), Double(1), Double(2)])) == [6, 2, 4]


def test_an_ask_that_raises_is_found_by_running_each_alone(caller: Caller) -> None:
    assert values(caller.run(Doubling(), [Double(1), Double(-1), Double(2)])) == [2, "negative", 4]
    assert caller.retried == 3


def test_an_answer_that_is_not_finite_fails_its_ask_and_no_other(caller: Caller) -> None:
    one, bad, other = caller.run(Doubling(), [Double(1), Double(float("inf")), Double(2)])
    assert values([one, other]) == [2, 4]
    assert isinstance(bad, DrawingFault)
    assert "not finite" in str(bad)


def test_a_call_that_does_not_fit_is_made_in_halves(caller: Caller) -> None:
    stage = Doubling(memory=8.0)
    assert values(caller.run(stage, [Double(value) for value in range(5)])) == [0, 2, 4, 6, 8]
    assert stage.calls == [[0, 1, 2, 3, 4], [0, 1], [2, 3, 4], [2], [3, 4]]


def test_what_did_not_fit_is_not_tried_again_for_this_size(caller: Caller) -> None:
    stage = Doubling(memory=8.0)
    caller.run(stage, [Double(value) for value in range(4)])
    assert caller.cap(stage, Double(1)) == 2
    assert caller.cap(stage, Double(1, side=1.0)) == 16
    assert caller.lowered == 1


def test_the_rows_of_a_guided_pair_count_for_its_cap(caller: Caller) -> None:
    stage = Doubling(memory=8.0)
    caller.run(stage, [Double(1, rows=2), Double(2, rows=2)])
    assert caller.cap(stage, Double(1, rows=2)) == 2


def test_an_ask_that_never_fits_fails_with_advice(caller: Caller) -> None:
    stage = Doubling(memory=8.0)
    small, big = caller.run(stage, [Double(1), Double(2, rows=3)])
    assert isinstance(big, DrawingFault)
    assert "smaller" in str(big)
    assert values([small]) == [2]


@pytest.mark.parametrize(
    "fault", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")], ids=repr
)
def test_the_cpus_ways_to_say_it_are_known(caller: Caller, fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Doubling(memory=4.0)
    original = stage.run

    def run(asks: Sequence[Double]) -> list[Tensor]:
        if len(asks) > 1:
            raise fault
        return original(asks)

    monkeypatch.setattr(stage, "run", run)
    assert values(caller.run(stage, [Double(1), Double(2)])) == [2, 4]
    assert caller.cap(stage, Double(1)) == 1


def test_answers_that_are_no_tensors_are_taken_as_they_are(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Doubling()
    monkeypatch.setattr(stage, "run", lambda asks: ["a", "b"])
    assert caller.run(stage, [Double(1), Double(2)]) == ["a", "b"]


def test_a_stage_that_loses_an_answer_is_found_out(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Doubling()
    monkeypatch.setattr(stage, "run", lambda asks: [])
    (answer,) = caller.run(stage, [Double(1)])
    assert "gave 0 answers to 1 asks" in str(answer)


def test_the_tally_counts_calls_that_were_answered(caller: Caller) -> None:
    stage = Doubling(memory=8.0)
    caller.run(stage, [Double(value) for value in range(4)])
    tally = caller.tallies["double"]
    assert (tally.calls, tally.rows, tally.largest) == (2, 4, 2)


def test_whoever_watches_the_time_hears_of_each_call() -> None:
    heard = []
    Caller(lambda: heard.append(1)).run(Doubling(memory=8.0), [Double(value) for value in range(4)])
    assert len(heard) == 3
