"""Large pictures are taught to the UNet by the UNet for small ones, whose own answers stay."""

import copy
import random
from pathlib import Path

import pytest
import torch

from models.pocket.training import large, lessons
from models.pocket.training.course import Plan
from models.pocket.training.crew import Crew
from models.pocket.training.lessons import Reader
from models.pocket.training.school import School
from models.pocket.training.session import Session
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
    small, doubled = (_losses(school, side) for side in (SMALL, 2 * SMALL))
    assert max(small) < 1e-6
    assert min(doubled) > 1e-3


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
