"""PyraCanny."""

import cv2
import numpy as np
import pytest

from pipelines.events import Pixels
from pipelines.images.canny import pyra_canny


def disc(width: int = 128, height: int = 96) -> Pixels:
    picture = np.full((height, width, 3), 40, np.uint8)
    cv2.circle(picture, (width // 2, height // 2), height // 3, (230, 90, 160), -1)
    return picture


def test_edges_lie_on_the_contour_and_nowhere_else() -> None:
    edges = pyra_canny(disc())
    rows, columns = np.indices(edges.shape[:2])
    distance = np.abs(np.hypot(rows - 48, columns - 64) - 32)
    assert edges.dtype == np.uint8
    assert edges.shape == (96, 128, 3)
    assert edges[distance < 1.5].mean() > 120
    assert edges[distance > 14].max() == 0
    assert (edges == edges[:, :, :1]).all()


def test_an_explicit_evaluation_of_the_definition_agrees() -> None:
    picture = disc(80, 64)
    gathered = None
    for tenths in range(2, 11):
        size = (int(80 * (tenths / 10)), int(64 * (tenths / 10)))
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        level = np.stack([cv2.Canny(small[..., c].copy(), 64, 128) / 255 for c in range(3)], axis=2)
        if gathered is None:
            gathered = level
        else:
            gathered = 0.75 * cv2.resize(gathered, size, interpolation=cv2.INTER_LINEAR) + 0.25 * level
    assert gathered is not None
    total = gathered.sum(axis=2)
    low, high = np.percentile(total, 1), np.percentile(total, 99)
    expected = ((total - low) / (high - low) * 255).clip(0, 255)
    assert np.abs(pyra_canny(picture)[..., 0] - expected).max() <= 1.01


def test_colour_edges_without_brightness_edges_are_seen() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, :32, 0] = 200
    picture[:, 32:, 2] = 200
    assert pyra_canny(picture)[:, 28:36].max() == 255


@pytest.mark.parametrize("value", [0, 127, 255])
def test_a_plain_picture_has_no_edges(value: int) -> None:
    assert not pyra_canny(np.full((64, 64, 3), value, np.uint8)).any()


def test_few_edges_in_a_large_picture_are_kept() -> None:
    picture = np.zeros((256, 256, 3), np.uint8)
    picture[100:104, 100:104] = 255
    edges = pyra_canny(picture)
    assert edges[95:110, 95:110].max() == 255
    assert not edges[150:].any()


def test_the_same_picture_gives_the_same_edges() -> None:
    assert np.array_equal(pyra_canny(disc()), pyra_canny(disc()))


def test_the_smallest_picture_is_answered() -> None:
    assert pyra_canny(np.zeros((8, 8, 3), np.uint8)).shape == (8, 8, 3)
