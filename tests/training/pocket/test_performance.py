"""What the performance LoRAs are taught, and from what noise."""

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.pocket.reader import Reader
from pipelines.denoising.schedules import sdxl_table
from pipelines.weights.family import Family
from training.pocket import dataset, performance
from training.pocket.adapter import Adapter
from training.pocket.frozen_models import FrozenModels
from training.pocket.performance import MODES
from training.pocket.run_dir import RunDir

BEGIN = sdxl_table().sigma_max
SIDE = 128


@pytest.fixture
def frozen(pocket_family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FrozenModels:
    """With as many small scenes as a lesson takes."""
    monkeypatch.setattr(dataset, "PICTURES", {SIDE: 8})
    monkeypatch.setattr(performance, "SMALL", SIDE // 2)
    monkeypatch.setattr(performance, "BATCHES", {SIDE: 8})
    torch.manual_seed(1)
    reader = Reader(pocket_family.tokenizers[0], pocket_family.text_encoders)
    unet = copy.deepcopy(pocket_family.unet).requires_grad_(False)
    return FrozenModels(reader, unet, RunDir.open(tmp_path, "pictures", torch.device("cpu")))


@pytest.mark.parametrize(("sigma", "level"), [(BEGIN, BEGIN), (8.0, 4.0)])
def test_a_large_picture_is_taught_by_a_small_one(
    frozen: FrozenModels, monkeypatch: pytest.MonkeyPatch, sigma: float, level: float
) -> None:
    seen: list[tuple[Tensor, float]] = []

    def taught(unet: Any, x: Tensor, sigma: float, *_: Any) -> Tensor:
        seen.append((x, sigma))
        return torch.zeros_like(x)

    monkeypatch.setattr(performance, "_taught", taught)
    adapter = Adapter(frozen.unet, 1)
    loss = performance._lesson(frozen, adapter, MODES["extreme_speed"], random.Random(1), SIDE, sigma)
    ((x, told),) = seen
    assert x.shape == (8, 4, SIDE // 16, SIDE // 16)
    assert told == pytest.approx(level)
    assert float(x.std()) == pytest.approx(level, rel=0.15)
    assert float(loss.detach()) > 0


def test_a_run_begins_with_noise_alone_and_goes_over_to_a_picture() -> None:
    for mode in MODES.values():
        assert mode.shown(BEGIN) == 0
    assert MODES["extreme_speed"].shown(4.0) == 1
    assert MODES["lightning"].shown(BEGIN / 4) == pytest.approx(0.75)
