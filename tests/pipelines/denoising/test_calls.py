"""Calls that go wrong: who is to blame is found, and nobody else suffers."""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from pipelines.denoising import calls
from pipelines.denoising.calls import Caller
from pipelines.errors import DrawingFault, EngineDead


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
    assert str(bad) == "the stage double gave values that are not finite"


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


def test_a_lowered_cap_is_tried_again_after_many_calls_that_fitted(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been something else on the device that was too large for a moment."""
    monkeypatch.setattr(calls, "RAISED_AFTER", 3)
    stage = Doubling(memory=8)
    caller.run(stage, [Double(1)] * 4)
    assert caller.cap(stage, Double(1)) == 2
    stage.memory = 1e9
    for _ in range(2):
        caller.run(stage, [Double(1)] * 2)
        caller.run(stage, [Double(1)])  # tells nothing of whether two fit
    assert caller.cap(stage, Double(1)) == 4  # the halves of the first call were one of the three


def test_nothing_of_a_call_that_did_not_fit_is_held_while_it_is_tried_again(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[Tensor]] = []
    alive: list[int] = []
    stage = Doubling()

    def run(asks: Sequence[Double]) -> list[Tensor]:
        alive.append(sum(each() is not None for each in held))
        activation = torch.zeros(4)
        held.append(weakref.ref(activation))
        if len(asks) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [activation + ask.value for ask in asks]

    monkeypatch.setattr(stage, "run", run)
    assert values(caller.run(stage, [Double(value) for value in (1, 2, 3, 4)])) == [1, 2, 3, 4]
    assert alive == [0] * 7


def test_a_lost_device_ends_the_engine(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call after such an error fails: each job would be told that it is its own fault."""
    stage = Doubling()

    def run(asks: Sequence[Double]) -> list[Tensor]:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(stage, "run", run)
    with pytest.raises(EngineDead, match="illegal memory access"):
        caller.run(stage, [Double(1), Double(2)])


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
