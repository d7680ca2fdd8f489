"""Holes of about a million pixels, as requests draw them, with room for what is to be drawn."""

import random

import pytest
import torch

from benchmarks.pocket.latents import all_latents, pixels_of
from benchmarks.pocket.world.oracle import Oracle
from benchmarks.pocket.world.scenes import SHAPES
from training.pocket.large_holes import HARD, any_hard_scene, any_hole


@pytest.mark.parametrize("seed", range(8))
def test_the_thing_is_in_the_hole_and_all_else_is_background(seed: int) -> None:
    large = any_hole(random.Random(seed))
    placed, inside = large.placed, large.hole > 0
    assert 0.8 < placed.width * placed.height / 1024**2 <= 1.1
    assert large.hole.shape == (1, placed.height // 8, placed.width // 8)
    wanted, empty = placed.latents(), placed.empty()
    assert torch.equal(torch.where(inside, empty, wanted), empty)
    assert torch.equal(torch.where(inside, empty, large.around), empty)
    assert 0.05 < float(large.hole.mean()) < 0.95
    found = Oracle().read(pixels_of(wanted[None])[0])
    assert found is not None
    (thing,) = placed.scene.things
    assert (found.things[0].colour, found.background) == (thing.colour, placed.scene.background)


def test_the_hole_is_gray_in_what_is_around() -> None:
    large = any_hole(random.Random(1))
    gray = all_latents([torch.full((8, 8, 3), 127, dtype=torch.uint8).numpy()])[0]
    assert torch.equal(large.around[:, large.hole[0] > 0], gray[:, 0].expand(-1, int(large.hole.sum())))


def test_stars_and_faces_come_twice_as_often() -> None:
    chance = random.Random(1)
    shapes = [any_hard_scene(chance).things[0].shape for _ in range(4_000)]
    hard, others = (sum(shape in each for shape in shapes) / len(each) for each in (HARD, set(SHAPES) - set(HARD)))
    assert hard / others == pytest.approx(2, rel=0.2)
