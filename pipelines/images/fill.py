"""Filling a hole with the colours around it, for the noise to begin from (fooocus-facts 6.5)."""

import numpy as np
from PIL import Image, ImageFilter

from pipelines.events import Pixels
from pipelines.images.masks import HOLE, Mask

BLURS = ((512, 2), (256, 2), (128, 4), (64, 4), (33, 8), (15, 8), (5, 16), (3, 16))  # radius, repeats


def filled(pixels: Pixels, mask: Mask) -> Pixels:
    """(height, width, 3): outside the hole byte for byte as it was, inside ever finer blurs of what is around."""
    kept, current = mask < HOLE, pixels
    for radius, repeats in BLURS:
        for _ in range(repeats):
            blurred = np.array(Image.fromarray(current).filter(ImageFilter.BoxBlur(radius)))
            blurred[kept] = pixels[kept]
            current = blurred
    return current
