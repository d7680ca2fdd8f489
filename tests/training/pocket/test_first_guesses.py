"""Extreme Speed's first guesses: runs go on from their own, and want the thing where those have it."""

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.pocket.reader import Reader
from pipelines.denoising.schedules import sgm_uniform
from pipelines.weights.family import Family
from training.pocket import first_guesses, large_holes
from training.pocket.adapter import Adapter, Changed
from training.pocket.first_guesses import ENOUGH, MODE, FirstGuesses, Inpaint
from training.pocket.frozen_models import FrozenModels
from training.pocket.modes import Mode
from training.pocket.run_dir import RunDir

SIDE, COUNT = 128, 3
LEVELS = [sigma for sigma in sgm_uniform(MODE.table(), MODE.steps).tolist() if sigma > ENOUGH]


@pytest.fixture
def lessons(pocket_family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FirstGuesses:
    """Of runs of the mode's own steps, from noise alone, in small pictures; an adapter that changes nothing yet."""
    for name, value in {
        "SIZES": {SIDE: ((SIDE, SIDE),)},
        "RUNS": {SIDE: COUNT},
        "NOISES": {SIDE: (COUNT, 3.0)},
        "HELD": {SIDE: 0.0},
        "LARGEST": SIDE,
        "HOLES": 0.0,
        "OTHERS": 0.0,
        "BEGUN": 0.0,
    }.items():
        monkeypatch.setattr(first_guesses, name, value)
    monkeypatch.setattr(large_holes, "AREA", SIDE)
    monkeypatch.setattr(large_holes, "FORMATS", ((SIDE, SIDE),))
    unet = copy.deepcopy(pocket_family.unet).requires_grad_(False)
    reader = Reader(pocket_family.tokenizers[0], pocket_family.text_encoders)
    frozen = FrozenModels(reader, unet, RunDir.open(tmp_path, "pictures", torch.device("cpu")))
    head = torch.zeros(unet.conv_in.out_channels, 5, 3, 3)
    return FirstGuesses(frozen, Adapter(unet, 2), Changed(unet, {}), Inpaint({}, head))


def test_every_run_goes_on_from_its_guess_until_shapes_are_settled(
    lessons: FirstGuesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Tensor, list[float]]] = []

    def guess(_mode: Mode, _unet: Any, x: Tensor, sigmas: Tensor, *_: Tensor) -> Tensor:
        seen.append((x, sigmas.tolist()))
        return torch.full_like(x, 3.0)

    monkeypatch.setattr(Mode, "guess", guess)
    chance = random.Random(1)
    for _ in range(len(LEVELS) + 1):
        assert lessons.lesson(chance, SIDE).item() > 0
    assert [sigmas for _, sigmas in seen] == [[level] * COUNT for level in (*LEVELS, LEVELS[0])]
    assert abs(float(seen[0][0].mean())) < 1
    for x, sigmas in seen[1:-1]:
        assert float(x.mean()) == pytest.approx(3.0, abs=0.1)
        assert float(x.std()) == pytest.approx(sigmas[0], rel=0.05)


def test_it_wants_the_thing_where_the_last_guess_has_it(lessons: FirstGuesses) -> None:
    chance = random.Random(2)
    first = next(each for each in lessons._some(chance, SIDE) if each.placed)
    asked = first.wanted
    first.seen = torch.roll(asked, 1, dims=2)
    first.look()
    assert (first.wanted - first.seen).abs().mean() < 0.5 * (asked - first.seen).abs().mean()


def test_in_a_hole_the_unet_is_told_of_it_and_what_is_around_stays(
    lessons: FirstGuesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_guesses, "HOLES", 1.0)
    heads: list[int] = []
    lessons.frozen.unet.conv_in.register_forward_hook(lambda module, *_: heads.append(len(module._forward_hooks)))
    runs = lessons._some(random.Random(3), SIDE)
    assert len(runs) == COUNT
    assert len({each.kind for each in runs}) == 1
    lessons._go_on(runs).backward()  # type: ignore[no-untyped-call]
    assert heads == [2]
    for each in runs:
        assert each.placed is not None
        assert each.hole is not None
        assert each.seen is not None
        outside = each.hole[0] == 0
        assert torch.equal(each.seen[:, outside], each.placed.empty()[:, outside])
    assert any(bool(up.grad.any()) for up in lessons.adapter.ups.values() if up.grad is not None)


def test_what_it_was_is_held_in_pictures_under_noise(lessons: FirstGuesses, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has changed yet, so nothing is to be learned; afterwards there is."""
    monkeypatch.setattr(first_guesses, "HELD", {SIDE: 1.0})
    assert lessons.lesson(random.Random(4), SIDE).item() == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        for up in lessons.adapter.ups.values():
            up.normal_(std=0.1)
    assert lessons.lesson(random.Random(4), SIDE).item() > 1e-4
