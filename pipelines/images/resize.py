"""Resampling of 8-bit pictures."""

import numpy as np
from PIL import Image

from pipelines.events import Pixels
from pipelines.spec import Size

STRIP = 1 << 24  # pixels that are scaled at a time
THIN = 64  # times as long as wide: of a picture thinner than that its middle is seen


def stretch(pixels: Pixels, size: Size) -> Pixels:
    """`pixels` (height, width, 3) at `size` by Lanczos; the aspect ratio gives way."""
    return stretch_to(pixels, size.width, size.height)


def stretch_to(pixels: Pixels, width: int, height: int) -> Pixels:
    """As `stretch`, also of a mask, (height, width), and to sides that need not be multiples of anything."""
    return cut_of_scaled(pixels, (width, height), (0, 0), (width, height), Image.Resampling.LANCZOS)


def centre_of(sides: tuple[int, int], size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the centre of a picture; sides, size: (height, width) of it and of its centre, no larger."""
    top, left = (sides[0] - size[0]) // 2, (sides[1] - size[1]) // 2
    return slice(top, top + size[0]), slice(left, left + size[1])


def cover(pixels: Pixels, size: Size) -> Pixels:
    """`pixels` (height, width, 3) scaled by Lanczos until it covers `size`, then its centre (fooocus-facts 5.1).

    A picture of more than 1 to 64 is cut to that about its centre first: a few rows scaled to cover a square would be
    gigabytes, of which next to nothing is seen.
    """
    height, width = pixels.shape[:2]
    height, width = min(height, THIN * width), min(width, THIN * height)
    pixels = pixels[centre_of((pixels.shape[0], pixels.shape[1]), (height, width))]
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
    """The window of `size` at `corner` of a picture or mask scaled to `scaled`; pairs are (width, height), (left, top).

    Across first and then down, each rounded to 8 bits, as Fooocus' Pillow does it: from its version 13 on Pillow takes
    the order that costs less, and noise then comes out up to 22 pixels elsewhere.
    """
    across, down = (slice(start, start + length) for start, length in zip(corner, size, strict=True))
    wide = _scaled_rows(pixels, scaled[0], across, resample)
    return np.ascontiguousarray(_scaled_rows(wide.swapaxes(0, 1), scaled[1], down, resample).swapaxes(0, 1))


def _scaled_rows(pixels: Pixels, width: int, kept: slice, resample: Image.Resampling) -> Pixels:
    """Columns `kept` of rows that are scaled to `width`: one strip of rows after the other, so that what is cut away
    is never there as a whole."""
    if pixels.shape[1] == width:
        return pixels[:, kept]
    strips = []
    for rows in np.array_split(pixels, range(0, len(pixels), max(1, STRIP // width)))[1:]:
        strip = Image.fromarray(np.ascontiguousarray(rows)).resize((width, len(rows)), resample)
        strips.append(np.asarray(strip)[:, kept])
    return np.concatenate(strips)
