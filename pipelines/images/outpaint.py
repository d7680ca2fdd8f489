"""Outpainting: a picture continued beyond its sides by its own border, which is a hole (fooocus-facts 6.3)."""

from collections.abc import Collection

import numpy as np

from pipelines.events import Pixels
from pipelines.images.masks import Mask
from pipelines.spec import OutpaintSide

SHARE = 0.3  # of the height or the width, on each side


def padded(pixels: Pixels, mask: Mask, sides: Collection[OutpaintSide]) -> tuple[Pixels, Mask]:
    """The picture, (height, width, 3), and its mask with 30 % more at each of the sides, which the mask marks.

    Top and bottom both count from the height before either, left and right from the width before either.
    """
    rows, columns = (int(SHARE * length) for length in pixels.shape[:2])
    top, bottom = (rows if side in sides else 0 for side in ("Top", "Bottom"))
    left, right = (columns if side in sides else 0 for side in ("Left", "Right"))
    borders = ((top, bottom), (left, right))
    return np.pad(pixels, (*borders, (0, 0)), "edge"), np.pad(mask, borders, constant_values=255)
