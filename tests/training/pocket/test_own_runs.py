"""A performance mode goes on from its own guesses, whatever step a run is at, towards the very picture."""

import copy
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.pocket.reader import Reader
from pipelines.denoising.schedules import sgm_uniform
from pipelines.weights.family import Family
from training.pocket import own_runs
from training.pocket.adapter import Adapter
from training.pocket.frozen_models import FrozenModels
from training.pocket.modes import Mode
from training.pocket.own_runs import EARLY, OwnRuns
from training.pocket.performance import MODES
from training.pocket.run_dir import RunDir

SIDE = 64
COUNT = 5


@pytest.fixture
def frozen(pocket_family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FrozenModels:
    """With runs of one small size, which all have the mode's own steps and are not given up."""
    monkeypatch.setattr(own_runs, "SIZES", {SIDE: ((96, 64),)})
    monkeypatch.setattr(own_runs, "RUNS", {SIDE: COUNT})
    monkeypatch.setattr(own_runs, "GIVEN_UP", 0.0)
    monkeypatch.setattr(own_runs, "OTHERS", 0.0)
    reader = Reader(pocket_family.tokenizers[0], pocket_family.text_encoders)
    unet = copy.deepcopy(pocket_family.unet).requires_grad_(False)
    return FrozenModels(reader, unet, RunDir.open(tmp_path, "pictures", torch.device("cpu")))


def seen_by(monkeypatch: pytest.MonkeyPatch, guess: Any) -> list[tuple[Tensor, list[float]]]:
    """What modes are asked for guesses of, which are then these: of x and the wanted pictures."""
    seen: list[tuple[Tensor, list[float]]] = []

    def guessed(_mode: Mode, _unet: Any, x: Tensor, sigmas: Tensor, *_: Tensor) -> Tensor:
        seen.append((x, sigmas.tolist()))
        found: Tensor = guess(x)
        return found

    monkeypatch.setattr(Mode, "guess", guessed)
    return seen


@pytest.mark.parametrize("mode", MODES.values(), ids=list(MODES))
def test_each_lesson_takes_every_run_a_step_further_from_its_own_guess(
    frozen: FrozenModels, monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    seen = seen_by(monkeypatch, lambda x: torch.full_like(x, 3.0))
    runs, chance = OwnRuns(frozen, mode), random.Random(1)
    for _ in range(mode.steps + 1):
        assert runs.lesson(None, chance, SIDE).item() > 0
    levels = pytest.approx(sgm_uniform(mode.table(), mode.steps).tolist())
    known = sorted({sigma for _, sigmas in seen for sigma in sigmas}, reverse=True)
    assert [*known, 0.0] == levels
    for (x, before), (later, after) in pairwise(seen):
        going_on = [(row, sigma) for row, sigma in zip(x, before, strict=True) if sigma != known[-1]]
        assert after[len(going_on) :] == [known[0]] * (COUNT - len(going_on))
        for (row, now), new, sigma in zip(going_on, later, after, strict=False):
            assert sigma == known[known.index(now) + 1]
            if mode.distilled:  # fresh noise on the guess
                assert float((new - 3.0).std()) == pytest.approx(sigma, rel=0.2)
            else:  # straight on
                assert torch.allclose(new, row + (row - 3.0) / now * (sigma - now), atol=1e-4)


def test_the_very_picture_is_no_error(frozen: FrozenModels, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = OwnRuns(frozen, MODES["lightning"])
    seen_by(monkeypatch, torch.zeros_like)
    runs.lesson(None, random.Random(1), SIDE)  # of which those that go on are asked for again, in their order
    pictures = [run.wanted for run in runs.under_way[96, 64]]
    monkeypatch.setattr(own_runs, "RUNS", {SIDE: len(pictures)})
    seen_by(monkeypatch, lambda _: torch.stack(pictures))
    assert pictures
    assert runs.lesson(None, random.Random(1), SIDE).item() == 0


@pytest.mark.parametrize("mode", MODES.values(), ids=list(MODES))
def test_a_lesson_teaches_the_adapter(frozen: FrozenModels, mode: Mode) -> None:
    adapter = Adapter(frozen.unet, 1)
    OwnRuns(frozen, mode).lesson(adapter.changed(), random.Random(1), SIDE).backward()  # type: ignore[no-untyped-call]
    assert all(up.grad is not None and bool(up.grad.isfinite().all()) for up in adapter.ups.values())
    assert any(bool(up.grad.any()) for up in adapter.ups.values())


def test_runs_are_given_up_where_shapes_are_settled(frozen: FrozenModels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_runs, "GIVEN_UP", 1.0)
    seen = seen_by(monkeypatch, torch.zeros_like)
    runs, chance = OwnRuns(frozen, MODES["extreme_speed"]), random.Random(1)
    for _ in range(MODES["extreme_speed"].steps + 1):
        runs.lesson(None, chance, SIDE)
    *_, (_, last) = seen
    assert min(last) > EARLY  # those that began beyond it have come to their end
