"""What the UNet learns from is what the service will give it."""

import random
from pathlib import Path

import pytest
import torch

from benchmarks.pocket.latents import latents_of
from benchmarks.pocket.world.drawing import draw
from training.pocket import dataset
from training.pocket.dataset import STRONG, Drawn, shown
from training.pocket.run_dir import RunDir


def test_pictures_are_the_same_however_many_processes_draw_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "PICTURES", {64: 6})
    alone = Drawn.of(RunDir.open(tmp_path, "alone", torch.device("cpu")), 96, 64)
    monkeypatch.setattr(dataset, "AT_ONCE", 4)
    together = Drawn.of(RunDir.open(tmp_path, "together", torch.device("cpu")), 96, 64)
    assert together.scenes == alone.scenes
    assert torch.equal(together.latents, alone.latents)
    for at, scene in enumerate(alone.scenes):
        expected = latents_of(draw(scene, 96, 64, random.Random(at), smooth=1))
        assert torch.allclose(alone.latents[at].float(), expected, atol=1e-3)


@pytest.mark.parametrize(("width", "height", "side"), [(256, 256, 256), (1152, 896, 1024), (640, 448, 512)])
def test_a_format_has_as_many_pictures_as_the_square_of_its_area(width: int, height: int, side: int) -> None:
    assert dataset.square(width, height) == side


def test_most_pictures_in_strong_noise_are_as_faint_as_in_a_run() -> None:
    torch.manual_seed(1)
    strongest, half, weak = (shown(torch.full((2_000,), sigma)) for sigma in (14.6, 7.3, STRONG))
    for found, faint in ((strongest, 0.05), (half, 0.5)):
        whole = found > 0.99
        assert 0.15 < float(whole.float().mean()) < 0.35
        assert float(found[~whole].mean()) == pytest.approx(faint, abs=0.02)
    assert set(weak.tolist()) == {1.0}
