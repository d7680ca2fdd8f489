"""Previews as files: of their size, never too large, and veiled where the safety checker speaks later."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from gateway.images.codec import MAX_BYTES, preview_of

NOISE = np.random.default_rng(0)


def sizes(contents: list[bytes]) -> set[tuple[int, int]]:
    return {Image.open(BytesIO(content)).size for content in contents}


def test_pictures_keep_their_order_size_and_colour() -> None:
    pixels = np.zeros((2, 16, 24, 3), np.uint8)
    pixels[1, :, :, 0] = 200
    preview = preview_of(pixels, 3, 9, veiled=False)
    assert (preview.step, preview.steps, preview.width, preview.height) == (3, 9, 24, 16)
    read = [np.asarray(Image.open(BytesIO(content))) for content in preview.contents]
    assert [int(picture[:, :, 0].mean().round(-1)) for picture in read] == [0, 200]
    assert preview.content_type == "image/jpeg"


@pytest.mark.parametrize("count", [1, 8])
def test_even_noise_of_the_largest_size_fits(count: int) -> None:
    pixels = NOISE.integers(0, 256, (count, 256, 256, 3), np.uint8)
    preview = preview_of(pixels, 1, 1, veiled=False)
    assert sum(map(len, preview.contents)) <= MAX_BYTES == 20_000
    assert sizes(list(preview.contents)) == {(preview.width, preview.height)}


def test_a_veiled_preview_is_four_times_as_coarse() -> None:
    preview = preview_of(np.zeros((1, 128, 96, 3), np.uint8), 1, 1, veiled=True)
    assert (preview.width, preview.height) == (24, 32)
    assert sizes(list(preview.contents)) == {(24, 32)}
