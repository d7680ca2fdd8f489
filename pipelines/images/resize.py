"""Resampling of 8-bit pictures."""

import numpy as np
from PIL import Image

from pipelines.events import Pixels
from pipelines.spec import Size


def stretch(pixels: Pixels, size: Size) -> Pixels:
    """`pixels` (height, width, 3) at `size` by Lanczos; the aspect ratio gives way."""
    return stretch_to(pixels, size.width, size.height)


def stretch_to(pixels: Pixels, width: int, height: int) -> Pixels:
    """As `stretch`, to sides that need not be multiples of anything."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def centre_of(sides: tuple[int, int], size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the centre of a picture; sides, size: (height, width) of it and of its centre, no larger."""
    top, left = (sides[0] - size[0]) // 2, (sides[1] - size[1]) // 2
    return slice(top, top + size[0]), slice(left, left + size[1])


def cover(pixels: Pixels, size: Size) -> Pixels:
    """`pixels` (height, width, 3) scaled by Lanczos until it covers `size`, then its centre (fooocus-facts 5.1)."""
    height, width = pixels.shape[:2]
    if width * size.height > height * size.width:
        scaled_width, scaled_height = width * size.height // height, size.height
    else:
        scaled_width, scaled_height = size.width, height * size.width // width
    left = scaled_width // 2 - size.width // 2
    top = scaled_height // 2 - size.height // 2
    return cut_of_scaled(
        pixels, (scaled_width, scaled_height), (left, top), (size.width, size.height), Image.Resampling.LANCZOS
    )


def cut_of_scaled(
    pixels: Pixels,
    scaled: tuple[int, int],
    corner: tuple[int, int],
    size: tuple[int, int],
    resample: Image.Resampling,
) -> Pixels:
    """The window of `size` at `corner` of `pixels` scaled to `scaled`; all pairs are (width, height) or (left, top).

    Only the window is computed: a strip of a few rows scaled to cover a square would be gigabytes.
    """
    height, width = pixels.shape[:2]
    if size == (width, height) and scaled == size:
        return pixels
    across, down = width / scaled[0], height / scaled[1]
    box = (
        corner[0] * across,
        corner[1] * down,
        min((corner[0] + size[0]) * across, width),
        min((corner[1] + size[1]) * down, height),
    )
    return np.asarray(Image.fromarray(pixels).resize(size, resample, box=box))
