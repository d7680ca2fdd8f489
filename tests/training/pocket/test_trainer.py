"""A run goes on where it was interrupted, and leaves the average of the weights."""

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from training.pocket import trainer
from training.pocket.run_dir import RunDir
from training.pocket.trainer import Plan, follow

PLAN = Plan(steps=8, rate=0.1, sides=(1, 2), examined=4)


class Interrupted(Exception):
    pass


def _run(folder: Path, stop_at: int | None = None) -> tuple[dict[str, Tensor], list[tuple[int, int]]]:
    """The weights that come out, and the steps that were taken with their side."""
    torch.manual_seed(1)
    module = nn.Linear(2, 1)
    run_dir = RunDir.open(folder, "part", torch.device("cpu"))
    taken: list[tuple[int, int]] = []

    def lesson(chance: random.Random, side: int) -> Tensor:
        if stop_at is not None and len(taken) == stop_at:
            raise Interrupted
        taken.append((len(taken), side))
        return (module(torch.rand(4, 2) * side) - chance.random()).square().mean()

    def exam() -> Mapping[str, float]:
        return {"weight": float(module.weight.detach()[0, 0])}

    follow(run_dir, module, PLAN, lesson, exam)
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}, taken


def test_an_interrupted_run_ends_where_an_unbroken_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "KEPT_EVERY", 0.0)  # seconds: every step is kept
    whole, _ = _run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        _run(tmp_path / "broken", stop_at=5)
    resumed, taken = _run(tmp_path / "broken")
    assert len(taken) == PLAN.steps - 5
    assert resumed.keys() == whole.keys()
    assert all(torch.allclose(resumed[name], whole[name]) for name in whole)


def test_a_checkpoint_of_another_plan_is_refused(tmp_path: Path) -> None:
    layer = nn.Linear(1, 1)

    def learn(plan: Plan) -> None:
        run_dir = RunDir.open(tmp_path, "part", torch.device("cpu"))
        follow(run_dir, layer, plan, lambda *_: layer(torch.ones(1, 1)).square().mean(), dict)

    learn(PLAN)
    learn(PLAN)
    with pytest.raises(ValueError, match="another plan: remove it"):
        learn(replace(PLAN, steps=PLAN.steps + 1))


def test_which_side_it_is_says_nothing_of_the_lesson(tmp_path: Path) -> None:
    layer = nn.Linear(1, 1)
    drawn: dict[int, list[float]] = {1: [], 2: []}

    def lesson(chance: random.Random, side: int) -> Tensor:
        drawn[side].append(chance.random())
        return layer(torch.ones(1, 1)).square().mean()

    run_dir = RunDir.open(tmp_path, "part", torch.device("cpu"))
    follow(run_dir, layer, replace(PLAN, steps=100, half=False), lesson, dict)
    for found in drawn.values():
        assert min(found) < 0.25
        assert max(found) > 0.75


@pytest.mark.parametrize("half", [True, False])
def test_layers_compute_in_bfloat16_where_the_plan_says_so(tmp_path: Path, half: bool) -> None:
    layer, seen = nn.Linear(2, 1), []

    def lesson(chance: random.Random, side: int) -> Tensor:
        answer = layer(torch.ones(1, 2))
        seen.append(answer.dtype)
        return answer.square().mean()

    run_dir = RunDir.open(tmp_path, "part", torch.device("cpu"))
    follow(run_dir, layer, replace(PLAN, half=half), lesson, dict)
    assert set(seen) == {torch.bfloat16 if half else torch.float32}
    assert layer.weight.dtype == torch.float32


def test_the_rate_rises_and_falls() -> None:
    plan = Plan(steps=500, rate=1.0)
    rates = [plan.rate_at(step) for step in range(500)]
    assert rates[0] < 0.05
    assert max(rates) == pytest.approx(1.0, abs=1e-3)
    assert rates[-1] < 1e-3


def test_exams_are_logged_before_during_and_after(tmp_path: Path) -> None:
    _run(tmp_path)
    logged = (tmp_path / "part" / "log.jsonl").read_text()
    assert [step for step in (0, 4, 8) if f'"step": {step}, "weight"' in logged] == [0, 4, 8]
