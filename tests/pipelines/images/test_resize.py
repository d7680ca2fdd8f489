"""Stretching and covering."""

import tracemalloc
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.events import Pixels
from pipelines.images import resize
from pipelines.images.resize import cover, stretch, stretch_to
from pipelines.spec import Size

SIDES = st.integers(1, 12).map(lambda eighths: 8 * eighths)


def noise(width: int, height: int) -> Pixels:
    """Of all levels: the filter overshoots and clips, so that the order of its passes can be told."""
    return np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def scaled_by_pillow(pixels: Pixels, width: int, height: int) -> Image.Image:
    """Rows and then columns: in two calls, of which Pillow has no order to choose."""
    rows = Image.fromarray(pixels).resize((width, pixels.shape[0]), Image.Resampling.LANCZOS)
    return rows.resize((width, height), Image.Resampling.LANCZOS)


@pytest.mark.parametrize(
    ("sides", "wanted", "picture_sum", "mask_sum"),
    [
        ((100, 100), (200, 50), 2806282818, 1177069235),
        ((60, 120), (50, 40), 2639052721, 2594029479),
        ((40, 30), (90, 64), 1278132962, 50814061),
        ((300, 200), (64, 96), 4252434127, 1280920254),
        ((64, 500), (128, 128), 2563557625, 35763406),
    ],
)
def test_what_is_stretched_is_what_pillow_made_of_it_before_it_chose_an_order(
    sides: tuple[int, int], wanted: tuple[int, int], picture_sum: int, mask_sum: int
) -> None:
    """The sums are of one call of `resize` by Pillow 9.5.0, 11.3.0 and 12.0.0, which agree."""
    picture = noise(*sides)
    mask = np.where(picture[..., 0] > 127, np.uint8(255), np.uint8(0))
    assert crc32(stretch_to(picture, *wanted).tobytes()) == picture_sum
    assert crc32(stretch_to(mask, *wanted).tobytes()) == mask_sum


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
    thin = resize.THIN
    left, top = (max(0, (long - thin * short) // 2) for long, short in ((width, height), (height, width)))
    picture = picture[top : top + thin * width, left : left + thin * height]
    height, width = picture.shape[:2]
    if width / height > wanted_width / wanted_height:
        scaled = (int(width * wanted_height // height), wanted_height)
    else:
        scaled = (wanted_width, int(height * wanted_width // width))
    whole = scaled_by_pillow(picture, *scaled)
    expected = Image.new("RGB", (wanted_width, wanted_height))
    expected.paste(whole, (wanted_width // 2 - scaled[0] // 2, wanted_height // 2 - scaled[1] // 2))
    covered = cover(picture, Size(width=wanted_width, height=wanted_height))
    assert np.array_equal(covered, np.asarray(expected))


def test_what_is_scaled_in_strips_is_what_is_scaled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    picture, size = noise(90, 41), Size(width=64, height=96)
    whole = stretch(picture, size)
    monkeypatch.setattr(resize, "STRIP", 500)
    assert np.array_equal(stretch(picture, size), whole)


@pytest.mark.parametrize("upright", [False, True])
def test_covering_with_a_thin_picture_sees_its_middle_and_does_not_build_the_whole(*, upright: bool) -> None:
    strip = noise(20000, 4)
    middle = stretch(strip[:, 9996:10004], Size(width=512, height=256))[:, 128:384].astype(int)
    tracemalloc.start()
    try:
        covered = cover(strip.swapaxes(0, 1) if upright else strip, Size(width=256, height=256))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    seen = covered.swapaxes(0, 1) if upright else covered
    assert np.abs(seen - middle)[64:192, 64:192].mean() < 2  # columns first, where it stands upright
    assert peak < 50_000_000
