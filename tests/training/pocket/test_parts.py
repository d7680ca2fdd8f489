"""Each part that is taught with the finished UNet takes its steps, learns, and leaves what it is shipped from."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from benchmarks.pocket.reader import Reader
from pipelines.weights.family import Family
from training.pocket import (
    concept,
    controls,
    dataset,
    image_prompts,
    inpainting,
    outlines,
    performance,
    reading,
    refiner,
    vision,
)
from training.pocket.frozen_models import FrozenModels
from training.pocket.run_dir import RunDir
from training.pocket.train import TAUGHT, teach
from training.pocket.trainer import Plan

PLAN = Plan(steps=2, rate=1e-3, sides=(128,))
FEW: Mapping[str, Any] = {
    "PLAN": PLAN,
    "BATCH": 2,
    "TRIED": 2,
    "TRIED_STEPS": 2,
    "HINTED": 2,
    "BATCHES": {128: 2},
    "SMALL": 64,
}
MODULES: tuple[ModuleType, ...] = (
    concept,
    controls,
    image_prompts,
    inpainting,
    outlines,
    performance,
    reading,
    refiner,
    vision,
)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of two small pictures."""
    for module in MODULES:
        for name, value in FEW.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
    kinds = {name: replace(kind, plan=PLAN) for name, kind in image_prompts.KINDS.items()}
    monkeypatch.setattr(image_prompts, "KINDS", kinds)
    modes = {name: replace(mode, plan=PLAN) for name, mode in performance.MODES.items()}
    monkeypatch.setattr(performance, "MODES", modes)
    monkeypatch.setattr(controls, "SIDE", 128)
    monkeypatch.setattr(dataset, "PICTURES", {128: 4})


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("part", TAUGHT)
def test_it_leaves_changed_weights(pocket_family: Family, tmp_path: Path, part: str) -> None:
    drawings = RunDir.open(tmp_path, "pictures", torch.device("cpu"))
    if part in image_prompts.KINDS:
        vision.train(RunDir.open(tmp_path, "vision", torch.device("cpu")))
    reader = Reader(pocket_family.tokenizers[0], pocket_family.text_encoders)
    begun = image_prompts.KINDS[part].begun if part in image_prompts.KINDS else ""
    for each in filter(None, (begun, part)):
        unet = copy.deepcopy(pocket_family.unet).requires_grad_(False)
        run_dir = RunDir.open(tmp_path, each, torch.device("cpu"))
        teach(run_dir, FrozenModels(reader, unet, drawings), each, tmp_path)
    checkpoint = torch.load(tmp_path / part / "checkpoint.pt", weights_only=True)
    moved = [bool(state["exp_avg"].any()) for state in checkpoint["optimizer"]["state"].values()]
    assert sum(moved) > 0.5 * len(moved)
    weights = torch.load(tmp_path / part / "weights.pt", weights_only=True)
    assert weights
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())
    logged = (tmp_path / part / "log.jsonl").read_text()
    assert '"step": 0' in logged
    assert '"step": 2' in logged
