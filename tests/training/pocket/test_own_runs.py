"""The LoRA of Extreme Speed goes on from its own guesses, whatever step a run is at."""

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
from training.pocket.own_runs import MODE
from training.pocket.run_dir import RunDir

SIZE = (96, 64)
COUNT = 5


@pytest.fixture
def frozen(pocket_family: Family, tmp_path: Path) -> FrozenModels:
    reader = Reader(pocket_family.tokenizers[0], pocket_family.text_encoders)
    unet = copy.deepcopy(pocket_family.unet).requires_grad_(False)
    return FrozenModels(reader, unet, RunDir.open(tmp_path, "pictures", torch.device("cpu")))


@pytest.fixture
def whole_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """None ends early, and each has the mode's own steps."""
    monkeypatch.setattr(own_runs, "GIVEN_UP", 0.0)
    monkeypatch.setattr(own_runs, "OTHERS", 0.0)


@pytest.mark.usefixtures("whole_runs")
def test_each_lesson_takes_every_run_a_step_further_from_its_own_guess(
    frozen: FrozenModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way, chance = own_runs._UnderWay(SIZE, frozen), random.Random(1)
    seen: list[tuple[Tensor, list[float]]] = []

    def guessed(_unet: Any, x: Tensor, sigmas: list[float], *_: Any) -> Tensor:
        seen.append((x, sigmas))
        return torch.full_like(x, 3.0)

    monkeypatch.setattr(under_way, "_guess", guessed)
    for _ in range(MODE.steps + 1):
        assert under_way.lesson(Adapter(frozen.unet, 1).changed(), chance, COUNT).item() > 0
    levels = sgm_uniform(MODE.table(), MODE.steps).tolist()
    assert {sigma for _, sigmas in seen for sigma in sigmas} == set(levels[:-1])
    for (_, before), (x, after) in pairwise(seen):
        on_their_way = [sigma for sigma in before if sigma != levels[-2]]
        assert after[: len(on_their_way)] == [levels[levels.index(sigma) + 1] for sigma in on_their_way]
        assert set(after[len(on_their_way) :]) <= {levels[0]}
        for now, sigma in zip(x, after[: len(on_their_way)], strict=False):  # fresh noise on the guess
            assert float((now - 3.0).std()) == pytest.approx(sigma, rel=0.2)


@pytest.mark.usefixtures("whole_runs")
def test_a_lesson_teaches_the_adapter(frozen: FrozenModels) -> None:
    adapter = Adapter(frozen.unet, 1)
    under_way = own_runs._UnderWay(SIZE, frozen)
    under_way.lesson(adapter.changed(), random.Random(1), 2).backward()  # type: ignore[no-untyped-call]
    assert all(up.grad is not None and bool(up.grad.isfinite().all()) for up in adapter.ups.values())
    assert any(bool(up.grad.any()) for up in adapter.ups.values())


def test_runs_are_given_up_where_shapes_are_settled(frozen: FrozenModels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_runs, "GIVEN_UP", 1.0)
    under_way = own_runs._UnderWay(SIZE, frozen)
    monkeypatch.setattr(under_way, "_guess", lambda _unet, x, *_: torch.zeros_like(x))
    for _ in range(12):
        under_way.lesson(Adapter(frozen.unet, 1).changed(), random.Random(1), COUNT)
    assert all(run.sigmas[0] > own_runs.EARLY for run in under_way.runs) or not under_way.runs


def test_an_adapter_goes_on_from_what_was_stored(frozen: FrozenModels) -> None:
    one, other = Adapter(frozen.unet, 2), Adapter(frozen.unet, 2)
    for up in one.ups.values():
        up.data.normal_()
    other.restore(one.stored())
    weights = other.weights()
    assert all(torch.equal(weight, weights[name]) for name, weight in one.weights().items())
