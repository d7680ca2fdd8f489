"""Stretching and covering."""

import tracemalloc

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.events import Pixels
from pipelines.images.resize import cover, stretch
from pipelines.spec import Size

SIDES = st.integers(1, 12).map(lambda eighths: 8 * eighths)


def noise(width: int, height: int) -> Pixels:
    """Mid-range, so that no pass of the filter overshoots and clips: Pillow may run the two passes in either order."""
    return np.random.default_rng(width * 1000 + height).integers(100, 156, (height, width, 3), dtype=np.uint8)


def test_stretch_fills_the_size_with_the_whole_picture() -> None:
    halves = np.zeros((30, 100, 3), np.uint8)
    halves[:, 50:] = 255
    stretched = stretch(halves, Size(width=64, height=96))
    assert stretched.shape == (96, 64, 3)
    assert (stretched[:, :28] < 10).all()
    assert (stretched[:, 36:] > 245).all()


def test_a_picture_of_the_right_size_is_not_resampled() -> None:
    picture = noise(64, 32)
    assert np.array_equal(stretch(picture, Size(width=64, height=32)), picture)
    assert np.array_equal(cover(picture, Size(width=64, height=32)), picture)


@settings(max_examples=60)
@given(st.integers(1, 120), st.integers(1, 120), SIDES, SIDES)
def test_cover_equals_scaling_the_whole_and_pasting_it_centred(
    width: int, height: int, wanted_width: int, wanted_height: int
) -> None:
    picture = noise(width, height)
    if width / height > wanted_width / wanted_height:
        scaled = (int(width * wanted_height // height), wanted_height)
    else:
        scaled = (wanted_width, int(height * wanted_width // width))
    whole = Image.fromarray(picture).resize(scaled, Image.Resampling.LANCZOS)
    expected = Image.new("RGB", (wanted_width, wanted_height))
    expected.paste(whole, (wanted_width // 2 - scaled[0] // 2, wanted_height // 2 - scaled[1] // 2))
    covered = cover(picture, Size(width=wanted_width, height=wanted_height))
    difference = np.abs(covered.astype(int) - np.asarray(expected).astype(int))
    assert covered.shape == (wanted_height, wanted_width, 3)
    assert difference.max() <= 2


def test_covering_with_a_thin_strip_does_not_build_the_whole_scaled_strip() -> None:
    strip = noise(20000, 4)
    tracemalloc.start()
    try:
        covered = cover(strip, Size(width=256, height=256))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert covered.shape == (256, 256, 3)
    assert peak < 50_000_000
