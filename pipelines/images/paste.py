"""What was drawn in a hole goes back into its picture, with a soft edge (fooocus-facts 6.9)."""

import cv2
import numpy as np

from pipelines.events import Pixels
from pipelines.images.area import Box
from pipelines.images.masks import HOLE, Mask
from pipelines.images.resize import stretch_to

FALLOFF = 8  # of 256 levels, for each pixel further from the hole: none is left at 32
REACH = 32  # pixels from the hole at which nothing is left


def paste_area(drawn: Pixels, box: Box, original: Pixels, mask: Mask) -> Pixels:
    """`original` with what was drawn of its area in `box`, (height, width, 3) of any size, in its hole, as in `paste`.

    Only what lies within 32 pixels of the hole is computed.
    """
    whole = original.copy()
    whole[box.top : box.bottom, box.left : box.right] = stretch_to(drawn, box.width, box.height)
    rows, columns = (np.flatnonzero((mask > HOLE).any(axis=axis)) for axis in (1, 0))
    near = tuple(slice(max(each[0] - REACH, 0), each[-1] + REACH + 1) for each in (rows, columns))
    answer = original.copy()
    answer[near] = paste(whole[near], original[near], mask[near])
    return answer


def paste(drawn: Pixels, original: Pixels, mask: Mask) -> Pixels:
    """`drawn` inside the hole, `original` from 32 pixels outside it on, byte for byte, and a mixture in between.

    drawn, original: (height, width, 3), both of the whole picture. mask: (height, width), above 127 in the hole. Raises
    ValueError where their sizes differ or the mask has no such levels.
    """
    if mask.dtype != np.uint8:
        raise ValueError(f"the mask is of {mask.dtype}: 8-bit levels are needed")
    if not drawn.shape == original.shape == (*mask.shape, 3):
        raise ValueError(f"drawn {drawn.shape}, original {original.shape} and mask {mask.shape} differ in size")
    share = soft_mask(mask)[:, :, None].astype(np.float32) / 255
    return (share * drawn + (1 - share) * original).astype(np.uint8)


def soft_mask(mask: Mask) -> Mask:
    """(height, width): 255 in the hole, and less the further it is, counted along rows and columns as a king walks."""
    outside = (mask <= HOLE).astype(np.uint8)
    if outside.all():
        return np.zeros_like(mask)
    distance = cv2.distanceTransform(outside, cv2.DIST_C, 3)
    return np.clip(256 - FALLOFF * distance, 0, 255).astype(np.uint8)
