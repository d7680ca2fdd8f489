"""The parts: each takes its steps, learns, and leaves what it is shipped from; together they make all that ships."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from benchmarks.pocket.evaluate import GATES
from models.pocket import trained
from models.pocket.trained import FOLDER, file_of
from pipelines.weights.family import Family
from training.pocket import (
    concept,
    controls,
    dataset,
    export,
    first_guesses,
    image_prompts,
    inpainting,
    large_holes,
    outlines,
    own_runs,
    performance,
    reading,
    refiner,
    vision,
)
from training.pocket.distributed import DistributedGroup
from training.pocket.parts import FINISHED, PARTS, Task
from training.pocket.run_dir import RunDir
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
    "SIZES": {128: ((128, 128),)},
    "RUNS": {128: 2},
    "LARGEST": 128,
    "HELD": {128: 0.5},
    "NOISES": {128: (2, 3.0)},
}
MODULES: tuple[ModuleType, ...] = (
    concept,
    controls,
    first_guesses,
    image_prompts,
    inpainting,
    outlines,
    own_runs,
    performance,
    reading,
    refiner,
    vision,
)


GOES_ON = {"face_prompt": "image_prompt", "first_guesses": "extreme_speed"}


@pytest.fixture
def tokenizer(pocket_family: Family) -> CLIPTokenizer:
    return pocket_family.tokenizers[0]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of two small pictures."""
    for module in MODULES:
        for name, value in FEW.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
    kinds = {name: replace(kind, plan=PLAN) for name, kind in image_prompts.KINDS.items()}
    monkeypatch.setattr(image_prompts, "KINDS", kinds)
    quick = {name: replace(mode, plan=PLAN) for name, mode in performance.MODES.items()}
    monkeypatch.setattr(performance, "MODES", quick)
    monkeypatch.setattr(controls, "SIDE", 128)
    monkeypatch.setattr(large_holes, "AREA", 128)
    monkeypatch.setattr(large_holes, "FORMATS", ((128, 128),))
    monkeypatch.setattr(dataset, "PICTURES", {128: 4})


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("part", ["vision", *(part for part in PARTS if set(FINISHED) <= set(PARTS[part].needs))])
def test_it_leaves_changed_weights(tmp_path: Path, tokenizer: CLIPTokenizer, part: str) -> None:
    for each in filter(None, (GOES_ON.get(part), part)):
        run_dir = RunDir.open(tmp_path, each, torch.device("cpu"))
        PARTS[each].train(Task(each, run_dir, tmp_path, tokenizer, DistributedGroup()))
    checkpoint = torch.load(tmp_path / part / "checkpoint.pt", weights_only=True)
    moved = [bool(state["exp_avg"].any()) for state in checkpoint["optimizer"]["state"].values()]
    assert sum(moved) > 0.5 * len(moved)
    ((shipped, weights),) = PARTS[part].left(tmp_path / part).items()
    assert weights.keys() == load_file(file_of(shipped)).keys()
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())
    logged = (tmp_path / part / "log.jsonl").read_text()
    assert '"step": 0' in logged
    assert '"step": 2' in logged


@pytest.mark.parametrize("part", GOES_ON)
def test_it_goes_on_from_a_part_that_was_trained_here(tmp_path: Path, tokenizer: CLIPTokenizer, part: str) -> None:
    run_dir = RunDir.open(tmp_path, part, torch.device("cpu"))
    with pytest.raises(FileNotFoundError, match=f"goes on from {GOES_ON[part]}"):
        PARTS[part].train(Task(part, run_dir, tmp_path, tokenizer, DistributedGroup()))


def test_first_guesses_begin_as_extreme_speed_was_left(
    tmp_path: Path, tokenizer: CLIPTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_file(file_of("lightning"))  # another change of the same layers
    (tmp_path / "extreme_speed").mkdir()
    torch.save({name: tensor.float() for name, tensor in before.items()}, tmp_path / "extreme_speed" / "weights.pt")
    monkeypatch.setattr(first_guesses, "follow", lambda *_: None)
    run_dir = RunDir.open(tmp_path, "first_guesses", torch.device("cpu"))
    PARTS["first_guesses"].train(Task("first_guesses", run_dir, tmp_path, tokenizer, DistributedGroup()))
    (left,) = PARTS["first_guesses"].left(run_dir.folder).values()
    assert {name for name, tensor in left.items() if not torch.equal(tensor, before[name].float())} == set()


def test_whatever_is_shipped_is_trained_by_a_part_and_judged_by_a_gate() -> None:
    assert {name for part in PARTS.values() for name in part.ships} == {path.stem for path in FOLDER.iterdir()}
    assert {part.gate for part in PARTS.values()} <= set(GATES)


def test_no_part_needs_a_later_one() -> None:
    order = list(PARTS)
    for name, part in PARTS.items():
        assert set(part.needs) <= set(order[: order.index(name)]), name


def test_of_two_parts_that_are_shipped_as_one_the_later_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trained, "FOLDER", tmp_path / "shipped")
    for at, part in enumerate(("large", "pictures", "texts")):
        (tmp_path / part).mkdir()
        left = {"weight": torch.full((2,), float(at))}
        torch.save([left, left] if part == "texts" else left, tmp_path / part / PARTS[part].leaves)
    monkeypatch.setattr("sys.argv", ["export", "--checkpoints", str(tmp_path)])
    export.main()
    shipped = {path.stem: load_file(path)["weight"] for path in (tmp_path / "shipped").iterdir()}
    assert {name: int(weight[0]) for name, weight in shipped.items()} == {
        "unet": 0,
        "text_encoder": 2,
        "text_encoder_2": 2,
    }
    assert {weight.dtype for weight in shipped.values()} == {torch.float16}
