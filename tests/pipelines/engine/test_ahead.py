"""The engine ahead of its device: whether answers are finite is read a call later, and nothing else changes."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipelines.device import Download
from pipelines.engine.engine import Engine
from pipelines.engine.tasks import Routine, ask
from pipelines.errors import DrawingFault, InputFault
from pipelines.events import Step
from pipelines.spec import Guidance, Spec
from pipelines.weights.family import Family
from tests.pipelines.engine.fakes import (
    AtOnce,
    Count,
    Counting,
    Paint,
    Painting,
    Spoiling,
    climb,
    forked,
    hold,
    job,
    painted,
    submit,
)
from tests.pipelines.studio import Studio, spec


class Noting:
    """The CPU, which notes when what it was to download is read: `read 3` is the third download."""

    def __init__(self, notes: list[str]) -> None:
        self.device = torch.device("cpu")
        self._notes, self._downloads = notes, 0

    def upload(self, tensor: Tensor) -> Tensor:
        return tensor

    def download(self, tensor: Tensor) -> Download:
        self._downloads += 1
        name = f"read {self._downloads}"

        def read() -> Tensor:
            self._notes.append(name)
            return tensor

        return read


class Noted(Spoiling):
    """Notes its calls."""

    def __init__(self, notes: list[str], spoils: Callable[[Count, Sequence[Count]], bool] = lambda *_: False) -> None:
        super().__init__(spoils)
        self._notes = notes

    def run(self, asks: Sequence[Count]) -> Any:
        self._notes.append(f"call {len(self.calls) + 1}")
        return super().run(asks)


def noted(*, ahead: bool, steps: int = 3) -> list[str]:
    """What happens, in its order, in a job that is drawn alone."""
    notes: list[str] = []
    engine = Engine([Noted(notes), Painting()], counted="count", device=Noting(notes), ahead=ahead)
    made, listener = job("a", lambda: painted(climb(steps)))

    def listen(event: Any) -> None:
        if not isinstance(event, Step):
            notes.append("told")
        listener(event)

    made.on_event = listen
    engine.submit(made, AtOnce())
    assert listener.last()[0] == steps
    engine.close()
    return notes


def test_answers_are_read_at_once_unless_the_engine_is_ahead() -> None:
    assert noted(ahead=False) == ["call 1", "read 1", "call 2", "read 2", "call 3", "read 3", "told"]


def test_answers_are_read_when_the_next_call_has_been_made_and_before_the_last_event() -> None:
    assert noted(ahead=True) == ["call 1", "call 2", "read 1", "call 3", "read 2", "read 3", "told"]


@pytest.fixture
def spoiling() -> Iterator[Callable[..., tuple[Engine, Spoiling, Painting]]]:
    engines: list[Engine] = []

    def made(spoils: Callable[[Count, Sequence[Count]], bool]) -> tuple[Engine, Spoiling, Painting]:
        stage, painting = Spoiling(spoils), Painting()
        engines.append(Engine([stage, painting], counted="count", ahead=True))
        return engines[-1], stage, painting

    yield made
    for engine in engines:
        engine.close()


def test_a_spoilt_job_is_begun_again_alone_and_its_neighbours_are_not_disturbed(spoiling: Any) -> None:
    engine, stage, _ = spoiling(lambda ask, call: ask.owner == "sick" and ask.value == 2 and len(call) > 1)
    hold(stage)
    jobs = {
        name: submit(engine, name, lambda name=name: painted(climb(5, owner=name)), 5)  # type: ignore[misc]
        for name in ("well", "sick", "other")
    }
    stage.gate.release(1000)
    assert [listener.last()[0] for listener in jobs.values()] == [5, 5, 5]
    assert engine.stats().retried == 1
    asked = {name: [ask.value for call in stage.calls for ask in call if ask.owner == name] for name in jobs}
    assert asked["well"] == asked["other"] == [0, 1, 2, 3, 4]
    assert asked["sick"] == [0, 1, 2, 3, 0, 1, 2, 3, 4]  # one more call was made before it was read
    again = [call for call in stage.calls if any(ask.owner == "sick" for ask in call)][-5:]
    assert [len(call) for call in again] == [1] * 5


@pytest.mark.parametrize("step", [0, 2, 4])
@pytest.mark.parametrize("branches", [1, 3])
def test_no_job_ends_with_what_was_spoilt_in_any_step(spoiling: Any, step: int, branches: int) -> None:
    left = [True] * branches
    engine, _, painting = spoiling(lambda ask, call: ask.value == step and bool(left) and left.pop())
    listener = submit(engine, "a", lambda: forked(*(painted(climb(5)) for _ in range(branches))))
    assert listener.last()[0] == [5] * branches
    assert engine.stats().retried == 1
    assert painting.painted[-branches:] == [5] * branches
    assert submit(engine, "next", lambda: painted(climb(1))).last()[0] == 1
    assert listener.events.empty()


@pytest.mark.parametrize("step", [0, 4])
def test_a_job_that_is_spoilt_alone_too_fails_with_what_happened(spoiling: Any, step: int) -> None:
    engine, stage, _ = spoiling(lambda ask, call: ask.owner == "sick" and ask.value == step)
    hold(stage)
    sick, well = (submit(engine, name, lambda name=name: painted(climb(5, owner=name))) for name in ("sick", "well"))  # type: ignore[misc]
    stage.gate.release(1000)
    fault = sick.last()
    assert isinstance(fault, DrawingFault)
    assert "not finite" in str(fault)
    assert well.last()[0] == 5
    assert submit(engine, "next", lambda: painted(climb(1))).last()[0] == 1
    assert sick.events.empty()
    assert engine.stats().live_jobs == 0


def test_a_job_that_fails_while_its_answer_is_unread_ends_once(spoiling: Any) -> None:
    def broken() -> Routine[int]:
        yield from ask(Count(0, owner="sick"))
        raise InputFault("type", "its own code")

    engine, _, _ = spoiling(lambda ask, call: ask.owner == "sick")
    listener = submit(engine, "a", broken)
    assert isinstance(listener.last(), InputFault)
    assert submit(engine, "next", lambda: painted(climb(3))).last()[0] == 3
    assert listener.events.empty()
    assert engine.stats().retried == 0


def test_an_idle_engine_leaves_nothing_unread() -> None:
    notes: list[str] = []
    engine = Engine([Noted(notes), Painting()], counted="count", device=Noting(notes), ahead=True)

    def paints_first() -> Routine[int]:
        value = yield from ask(Paint(4))
        return (yield from ask(Count(value)))

    assert submit(engine, "a", paints_first).last()[0] == 5
    deadline = time.monotonic() + 20
    while notes[-1:] != ["read 1"] and time.monotonic() < deadline:
        time.sleep(0.001)
    engine.close()
    assert notes == ["call 1", "read 1"]


WORKS: dict[str, Spec] = {
    "distilled": spec(seeds=(1, 2)),
    "guided with everything": spec(
        sampler="dpmpp_2m_sde", schedule="karras", guidance=Guidance(scale=9.0, mimicked=7.0, sharpness=20.0)
    ),
    "two evaluations a step": spec(sampler="heun", schedule="karras", loras=()),
}


def test_pictures_are_the_same(pocket_family: Family) -> None:
    drawn: dict[bool, list[Any]] = {}
    for ahead in (False, True):
        studio = Studio(pocket_family, ahead=ahead)
        drawn[ahead] = [studio.draw(work) for work in WORKS.values()]
        studio.drawer.close()
    for one, other in zip(drawn[False], drawn[True], strict=True):
        assert np.array_equal(one, other)


def test_a_listener_is_told_of_steps_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.listeners.PROGRESS_S", 0.0)
    stage = Counting()
    engine = Engine([stage, Painting()], counted="count", ahead=True)
    listener = submit(engine, "a", lambda: painted(climb(5)), 5)
    assert listener.last()[0] == 5
    engine.close()
    assert [progress.step for progress in listener.steps] == list(range(6))
