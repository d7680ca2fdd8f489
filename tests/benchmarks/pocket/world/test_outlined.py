"""Outlines are hollow, and that shows in how much of a thing is filled."""

import numpy as np
import pytest

from benchmarks.pocket.world.drawing import draw
from benchmarks.pocket.world.outlined import filled, outlined
from benchmarks.pocket.world.scenes import Scene, Thing


def _picture(shape: str) -> np.ndarray:
    return draw(Scene((Thing(shape, "red", "big", "centre"),), "blue"), 256, 256)


@pytest.mark.parametrize("shape", ["circle", "square", "heart", "triangle"])
def test_what_is_outlined_is_less_filled(shape: str) -> None:
    solid = _picture(shape)
    assert filled(solid) > (0.9 if shape == "heart" else 0.98)  # a heart does not fill its hull
    assert filled(outlined(solid)) < 0.7


def test_a_line_stays_where_the_edge_was() -> None:
    solid = _picture("circle")
    hollow = outlined(solid)
    assert np.array_equal(hollow[128, 128], solid[0, 0])
    changed = (hollow != solid).any(axis=2)
    assert (solid[changed] != solid[0, 0]).any(axis=1).all()  # only what was red became blue
    rows = np.where((hollow != hollow[0, 0]).any(axis=2))[0]
    assert (rows.min(), rows.max()) == tuple(np.where((solid != solid[0, 0]).any(axis=2))[0][[0, -1]])


def test_nothing_is_not_filled() -> None:
    assert filled(np.full((64, 64, 3), 200, np.uint8)) == 0.0
