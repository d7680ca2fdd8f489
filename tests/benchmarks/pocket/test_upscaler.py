"""What the 4x upscaler was trained to: it brings back more of held-out scenes than bicubic enlargement does."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.pocket.acceptance.upscaler import (
    LEAST_STEEPNESS,
    MOST_MOVED,
    detail_over_bicubic,
    exam,
    steepness_over_bicubic,
)
from benchmarks.pocket.world.drawing import Pixels, draw
from benchmarks.pocket.world.scenes import Scene, Thing
from models.pocket.trained import file_of
from pipelines.weights.esrgan import read_upscaler


@pytest.mark.parametrize(("side", "count"), [(256, 8), (1024, 1)])
def test_it_beats_bicubic(side: int, count: int) -> None:
    with torch.inference_mode():
        found = exam(read_upscaler(file_of("upscaler")), side, count)
    assert found["upscaler"] > found["bicubic"] + 0.5  # dB


@pytest.mark.parametrize("times", LEAST_STEEPNESS)
@pytest.mark.parametrize("blur", [0.0, 2.5], ids=["bicubic", "blurred"])
def test_grain_is_detail_but_no_steep_outline(times: int, blur: float) -> None:
    """What outlines are judged by must not be passed by it."""
    given, picture = square(128), enlarged(square(128), times)
    if blur:
        picture = cv2.GaussianBlur(picture, (0, 0), blur)
    grain = np.random.default_rng(1).normal(0, 3, picture.shape)
    grainy = np.clip(picture + grain, 0, 255).astype(np.uint8)
    assert detail_over_bicubic(grainy, given) > 1
    assert steepness_over_bicubic(grainy, given) < LEAST_STEEPNESS[times]


@pytest.mark.parametrize("times", LEAST_STEEPNESS)
def test_steepness_is_told_in_that_of_the_bicubic_picture(times: int) -> None:
    assert steepness_over_bicubic(enlarged(square(128), times), square(128)) == 1


@pytest.mark.parametrize("times", LEAST_STEEPNESS)
def test_an_outline_that_has_moved_is_as_steep_as_before(times: int) -> None:
    given, crisp = square(256), square(256 * times)
    steep = steepness_over_bicubic(crisp, given)
    assert steep > LEAST_STEEPNESS[times]
    for axis in (0, 1):
        moved = np.roll(crisp, MOST_MOVED // 2, axis=axis)
        assert steepness_over_bicubic(moved, given) == pytest.approx(steep, rel=0.05)


def square(side: int) -> Pixels:
    return draw(Scene((Thing("square", "red", "big", "left"),), "brown"), side, side)


def enlarged(given: Pixels, times: int) -> Pixels:
    return np.asarray(Image.fromarray(given).resize((times * len(given),) * 2, Image.Resampling.BICUBIC))
