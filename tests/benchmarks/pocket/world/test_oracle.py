"""The oracle reads back what was drawn."""

import random

import numpy as np
import pytest

from benchmarks.pocket.world.drawing import draw
from benchmarks.pocket.world.oracle import Oracle, mask
from benchmarks.pocket.world.scenes import COLOURS, PLACES, SHAPES, SIZES, Scene, Thing, any_scene

ORACLE = Oracle()
ORDER = ("left", "top", "centre", "right", "bottom")


def ordered(scene: Scene) -> Scene:
    return Scene(tuple(sorted(scene.things, key=lambda thing: ORDER.index(thing.place))), scene.background)


@pytest.mark.parametrize(("width", "height"), [(256, 256), (512, 512), (384, 256), (256, 448)])
def test_more_than_98_percent_of_the_scenes_are_read_without_a_mistake(width: int, height: int) -> None:
    chance = random.Random(width + height)
    scenes = [any_scene(chance) for _ in range(100)]
    right = sum(ORACLE.read(draw(scene, width, height, chance)) == ordered(scene) for scene in scenes)
    assert right > 98


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", SIZES)
def test_every_shape_is_known_at_every_place_of_a_large_picture(shape: str, size: str) -> None:
    for at, place in enumerate(PLACES):
        colour, background = list(COLOURS)[at], list(COLOURS)[at + 5]
        scene = Scene((Thing(shape, colour, size, place),), background)
        assert ORACLE.read(draw(scene, 1024, 1024, smooth=1)) == scene


def test_an_empty_picture_shows_nothing() -> None:
    assert ORACLE.read(np.full((256, 256, 3), 90, np.uint8)) is None


def test_noise_is_no_scene_that_was_asked_for() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    found = ORACLE.read(noise)
    assert found is None or len(found.things) != 1


def test_the_mask_covers_the_shape_alone() -> None:
    covered = mask(draw(Scene((Thing("square", "red", "big", "centre"),), "white"), 256, 256))
    assert covered.mean() == pytest.approx((2 * 0.88 * SIZES["big"]) ** 2, rel=0.03)
    assert covered[128, 128]
    assert not covered[20, 20]
