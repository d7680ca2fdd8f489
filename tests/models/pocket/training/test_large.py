"""Large pictures are taught to the UNet by the UNet for small ones, whose own answers stay."""

import copy
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.pocket.training import large, lessons
from models.pocket.training.course import Plan
from models.pocket.training.crew import Crew
from models.pocket.training.lessons import Reader
from models.pocket.training.school import School
from models.pocket.training.session import Session
from models.pocket.world.captions import NAMES
from models.pocket.world.scenes import any_scene
from pipelines.weights.family import Family

SMALL = 64


@pytest.fixture
def school(pocket_family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> School:
    monkeypatch.setattr(lessons, "PICTURES", {SMALL: 4, 2 * SMALL: 4})
    monkeypatch.setattr(large, "SMALL", SMALL)
    monkeypatch.setattr(large, "BATCHES", {SMALL: 2, 2 * SMALL: 2})
    reader = Reader(pocket_family.tokenizers[0], pocket_family.text_encoders)
    unet = copy.deepcopy(pocket_family.unet).requires_grad_(False)
    return School(reader, unet, Session.open(tmp_path, "pictures", torch.device("cpu")))


def _losses(school: School, side: int) -> list[float]:
    torch.manual_seed(1)
    return [float(large._lesson(school, school.unet, random.Random(seed), side, 2)) for seed in range(6)]


def test_at_the_small_size_the_teacher_has_nothing_to_learn(school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "UNPOOLED", 0.0)
    monkeypatch.setattr(large, "EMPHASISED", 0.0)
    assert max(_losses(school, SMALL)) < 1e-6


def test_the_teacher_sees_pictures_small_through_as_much_noise_as_small_ones_have(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, float]] = []

    def answer(unet: Any, x: Tensor, sigma: Tensor, *_: Any) -> Tensor:
        if unet is school.unet:
            assert x.shape[-1] == SMALL // 8
            seen.extend(zip(sigma.flatten().tolist(), x.std(dim=(1, 2, 3)).tolist(), strict=True))
        return torch.zeros_like(x)

    monkeypatch.setattr(large, "_answer", answer)
    monkeypatch.setattr(large, "STRONG", (10.0, 14.0))
    for faint, least, most in ((1.0, 10.0, 14.0), (0.0, 5.0, 7.0)):
        monkeypatch.setattr(large, "FAINT", faint)
        large._strong(school, object(), random.Random(1), 2 * SMALL, 8)
        assert all(least <= level <= most for level, _ in seen)
        assert all(0.8 < deviation / level < 1.25 for level, deviation in seen)
        seen.clear()


def test_what_another_word_changes_counts_by_itself(school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(unet: Any, x: Tensor, *_: Any) -> Tensor:
        off = torch.zeros_like(x)
        if unet is not school.unet:
            off[: len(x) // 2] = 1  # the answers to the first captions, but not to the second
        return off

    monkeypatch.setattr(large, "_answer", answer)
    losses = []
    for word in (0.0, 5.0):
        monkeypatch.setattr(large, "WORD", word)
        torch.manual_seed(1)
        losses.append(float(large._strong(school, object(), random.Random(1), SMALL, 4)))
    assert losses[1] > 1.5 * losses[0]


def test_a_pair_of_captions_differs_in_the_shape_alone(school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def told(_: School, said: list[str]) -> tuple[Tensor, Tensor]:
        read.extend(said)
        return torch.zeros(len(said), 1, 1), torch.zeros(len(said), 1)

    monkeypatch.setattr(School, "told", told)
    monkeypatch.setattr(large, "UNSAID", 0.0)
    chance = random.Random(2)
    scenes = [any_scene(chance) for _ in range(40)]
    others = [large._reshaped(scene, chance) for scene in scenes]
    seeds = [chance.random() for _ in scenes]
    large._Saying.of(school, [*scenes, *others], [*seeds, *seeds])
    for at, (scene, other) in enumerate(zip(scenes, others, strict=True)):
        (one, *more), (changed, *rest) = scene.things, other.things
        assert one.shape != changed.shape
        assert (replace(one, shape=""), more, scene.background) == (replace(changed, shape=""), rest, other.background)
        assert _unnamed(read[at], one.shape) == _unnamed(read[40 + at], changed.shape)


def _unnamed(said: str, shape: str) -> str:
    """Without the first name of the shape."""
    for name in sorted(NAMES.get(shape, (shape,)), key=len, reverse=True):
        if f" {name}" in said:
            return said.replace(f" {name}", " thing", 1)
    raise AssertionError(f"{said!r} does not name a {shape}")


def test_it_leaves_a_unet_whose_outermost_layers_are_as_they_were(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large, "PLAN", Plan(steps=2, rate=1e-3, sides=(SMALL, 2 * SMALL)))
    monkeypatch.setattr(large, "TRIED", {SMALL: 2})
    monkeypatch.setattr(large, "TRIED_STEPS", 2)
    session = Session.open(school.drawings.folder.parent, "large", torch.device("cpu"))
    large.train(session, school, Crew())
    found = torch.load(session.folder / "unet.pt", weights_only=True)
    before = school.unet.state_dict()
    changed = {name for name, tensor in found.items() if not torch.equal(tensor, before[name])}
    assert not any(name.startswith(large.FROZEN) for name in changed)
    assert len(changed) > 0.5 * len(found)
    assert '"shape_64"' in (session.folder / "log.jsonl").read_text()


def test_a_picture_is_as_faint_as_in_a_run() -> None:
    torch.manual_seed(1)
    strongest, half, none = (large._faint(torch.full((500, 1, 1, 1), sigma)) for sigma in (14.6, 7.3, 0.0))
    assert float(strongest.mean()) < 0.06
    assert 0.45 < float(half.mean()) < 0.55
    assert set(none.flatten().tolist()) == {1.0}


def test_weak_noise_comes_with_edges_that_strong_noise_left_soft() -> None:
    torch.manual_seed(1)
    clean = torch.zeros(50, 4, 16, 16)
    clean[:, :, :, 8:] = 1
    soft = large._blurred(clean, 4, torch.full((50, 1, 1, 1), large.WEAK[1]))
    sharp = large._blurred(clean, 4, torch.full((50, 1, 1, 1), 0.01))
    assert (soft - clean).abs().max() > 0.3
    assert (sharp - clean).abs().max() < 0.01
    assert torch.equal(large._blurred(clean, 1, torch.full((50, 1, 1, 1), large.WEAK[1])), clean)
