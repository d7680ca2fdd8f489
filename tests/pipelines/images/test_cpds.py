"""CPDS shows structure: what differs in brightness or in colour differs in gray."""

import cv2
import numpy as np
import pytest
from skimage import data

from pipelines.images.cpds import cpds


def halves(left: tuple[int, int, int], right: tuple[int, int, int], side: int = 64) -> np.ndarray:
    picture = np.empty((side, side, 3), np.uint8)
    picture[:, : side // 2], picture[:, side // 2 :] = left, right
    return picture


def test_it_is_the_formula_on_a_photograph() -> None:
    picture = cv2.resize(data.astronaut(), (96, 80), interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(picture, (0, 0), 0.8)
    gray, boosted = cv2.decolor(blurred)
    shade = gray + np.sqrt(((blurred.astype(float) - boosted) ** 2).sum(axis=2))
    low, high = np.percentile(shade, 4), np.percentile(shade, 96)
    expected = np.clip((shade - low) / (high - low), 0, 1) * 255
    found = cpds(picture)
    assert found.shape == (80, 96, 3)
    assert np.abs(found[..., 0] - expected).max() <= 1.01
    assert np.array_equal(found[..., 0], found[..., 1])
    assert np.array_equal(found[..., 0], found[..., 2])


@pytest.mark.parametrize(("left", "right"), [((0, 0, 0), (255, 255, 255)), ((250, 150, 190), (250, 140, 20))])
def test_what_differs_is_told_apart(left: tuple[int, int, int], right: tuple[int, int, int]) -> None:
    found = cpds(halves(left, right))[:, :, 0].astype(int)
    assert abs(found[:, :28].mean() - found[:, 36:].mean()) > 100


@pytest.mark.parametrize("value", [0, 90, 255])
def test_a_plain_picture_has_no_structure(value: int) -> None:
    assert not cpds(np.full((32, 32, 3), value, np.uint8)).any()


def test_it_is_deterministic() -> None:
    picture = halves((10, 200, 30), (200, 20, 90))
    assert np.array_equal(cpds(picture), cpds(picture))
