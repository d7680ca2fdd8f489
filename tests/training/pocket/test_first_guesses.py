"""Extreme Speed's first guesses: runs go on from their own, and want the thing where those have it."""

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.pocket.reader import Reader
from benchmarks.pocket.world.scenes import Scene, Thing
from pipelines.denoising.schedules import sgm_uniform
from pipelines.weights.family import Family
from pipelines.weights.inpaint import head_feature
from training.pocket import first_guesses, large_holes
from training.pocket.adapter import Adapter, Changed
from training.pocket.first_guesses import ENOUGH, MODE, FirstGuesses, Inpaint
from training.pocket.frozen_models import FrozenModels
from training.pocket.large_holes import LargeHole
from training.pocket.modes import Mode
from training.pocket.placed import Placed
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
    torch.manual_seed(1)
    monkeypatch.setattr(large_holes, "AREA", SIDE)
    monkeypatch.setattr(large_holes, "FORMATS", ((SIDE, SIDE),))
    unet = copy.deepcopy(pocket_family.unet).requires_grad_(False)
    reader = Reader(pocket_family.tokenizers[0], pocket_family.text_encoders)
    frozen = FrozenModels(reader, unet, RunDir.open(tmp_path, "pictures", torch.device("cpu")))
    head = torch.ones(unet.conv_in.out_channels, 5, 3, 3)
    patch = {"conv_out.weight": torch.ones_like(unet.conv_out.weight)}
    return FirstGuesses(frozen, Adapter(unet, 2), Changed(unet, {}), Inpaint(patch, head))


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
        assert float(x.mean()) == pytest.approx(3.0, abs=0.1 * sigmas[0])
        assert float(x.std()) == pytest.approx(sigmas[0], rel=0.1)


def test_it_wants_the_thing_where_the_last_guess_has_it(lessons: FirstGuesses) -> None:
    chance = random.Random(2)
    first = next(each for each in lessons._some(chance, SIDE) if each.placed)
    asked = first.wanted
    first.seen = torch.roll(asked, 1, dims=2)
    first.look()
    assert (first.wanted - first.seen).abs().mean() < 0.5 * (asked - first.seen).abs().mean()


def test_in_a_hole_the_unet_has_its_patch_and_head_and_what_is_around_stays(
    lessons: FirstGuesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_guesses, "HOLES", 1.0)
    entered: list[Tensor] = []
    outermost: list[Tensor] = []

    def guess(_mode: Mode, unet: Any, x: Tensor, *_: Tensor) -> Tensor:
        unet_in = lessons.frozen.unet.conv_in
        entered.append(unet_in(x) - nn.functional.conv2d(x, unet_in.weight, unet_in.bias, padding=1))
        outermost.append(unet._weights["conv_out.weight"] - lessons.adapter.weights()["conv_out.weight"])
        return x + 0 * unet._weights["conv_in.weight"].sum()

    monkeypatch.setattr(Mode, "guess", guess)
    runs = lessons._some(random.Random(3), SIDE)
    assert len(runs) == COUNT
    assert len({each.kind for each in runs}) == 1
    lessons._go_on(runs)
    assert torch.allclose(outermost[0], torch.ones_like(outermost[0]), atol=1e-5)
    for each, added in zip(runs, entered[0], strict=True):
        assert each.placed is not None
        assert each.hole is not None
        assert each.around is not None
        expected = head_feature(lessons.inpaint.head, each.hole[None], each.around[None])[0]
        torch.testing.assert_close(added, expected, atol=1e-3, rtol=0)
        outside = each.hole[0] == 0
        kept = each.blended(torch.full_like(each.x, 9.0))
        assert torch.equal(kept[:, outside], each.placed.empty()[:, outside])
        assert bool((kept[:, ~outside] == 9).all())


def test_holes_of_a_rare_size_wait_for_others_like_them(lessons: FirstGuesses, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is drawn until there are enough of one that is rare."""
    monkeypatch.setattr(first_guesses, "HOLES", 1.0)
    begun: list[tuple[int, int]] = []

    def any_hole(chance: random.Random) -> LargeHole:
        begun.append((64, 128) if len(begun) % 5 == 0 else (128, 128))
        placed = Placed.as_said(Scene((Thing("circle", "red", "big", "centre"),), "blue"), *begun[-1])
        return LargeHole(placed, torch.ones(1, *placed.empty().shape[1:]), placed.empty())

    monkeypatch.setattr(first_guesses, "any_hole", any_hole)
    assert {each.kind for each in lessons._some(random.Random(5), SIDE)} == {(True, 16, 16)}
    assert len(begun) == COUNT + 1
    assert len(lessons.under_way[True, 16, 8]) == 1


def test_what_it_was_is_held_in_pictures_under_noise(lessons: FirstGuesses, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has changed yet, so nothing is to be learned; afterwards there is."""
    monkeypatch.setattr(first_guesses, "HELD", {SIDE: 1.0})
    assert lessons.lesson(random.Random(4), SIDE).item() == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        for up in lessons.adapter.ups.values():
            up.normal_(std=0.1)
    assert lessons.lesson(random.Random(4), SIDE).item() > 1e-4
