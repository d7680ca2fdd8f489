"""Masks: which pixels of a picture are drawn anew (fooocus-facts 6.2). 8-bit, 255 in the hole and 0 elsewhere."""

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.events import Pixels
from pipelines.images.resize import stretch_to

Mask = npt.NDArray[np.uint8]

HOLE = 127  # levels above it are the hole


def mask_of(upload: Pixels | None, height: int, width: int, grow: int = 0, *, inverted: bool = False) -> Mask:
    """The mask of a picture of `height` x `width`: what is uploaded, made larger or smaller, then inverted.

    upload: (h, w, 3) of any size, which is stretched by Lanczos; None marks nothing. grow: pixels by which the hole
    grows on every side, or shrinks below 0.
    """
    mask = np.zeros((height, width), np.uint8)
    if upload is not None:
        mask = thresholded(stretch_to(upload, width, height).mean(axis=2))
    mask = grown(mask, grow)
    return 255 - mask if inverted else mask


def thresholded(levels: npt.NDArray[np.generic]) -> Mask:
    """255 where levels are above 127, 0 elsewhere."""
    return np.where(np.asarray(levels, np.float64) > HOLE, np.uint8(255), np.uint8(0))


def grown(mask: Mask, pixels: int) -> Mask:
    """Dilated that many times by a square of 3 x 3, or eroded below 0; beyond the border is nothing that counts."""
    if pixels == 0:
        return mask
    square = np.ones((3, 3), np.uint8)
    change = cv2.dilate if pixels > 0 else cv2.erode
    return np.asarray(change(mask, square, iterations=abs(pixels)), np.uint8)


def scaled_mask(mask: Mask, height: int, width: int) -> Mask:
    """At another size, by Lanczos and the threshold (fooocus-facts 6.4)."""
    return thresholded(stretch_to(mask, width, height))


def latent_mask(mask: Mask, height: int, width: int) -> npt.NDArray[np.float32]:
    """(height, width) of 0 and 1, as large as a latent: 1 where it has a pixel of the hole (fooocus-facts 6.6)."""
    shares = (mask / 255).astype(np.float32)
    if mask.shape != (8 * height, 8 * width):
        shares = np.asarray(cv2.resize(shares, (8 * width, 8 * height), interpolation=cv2.INTER_LINEAR))
    return np.asarray(np.rint(shares).reshape(height, 8, width, 8).max(axis=(1, 3)), np.float32)
