"""Making a canvas ready: its mask, the area that is drawn, and the pictures of that (fooocus-facts 6.2 to 6.4)."""

from collections.abc import Collection

import numpy as np

from pipelines.events import Pixels
from pipelines.images.area import area_of
from pipelines.images.masks import Mask, latent_mask, mask_of, scaled_mask
from pipelines.images.resize import stretch_to
from pipelines.images.sizes import FACTOR, at_ceil, check_sides, latent_size, shape_ceil
from pipelines.inputs import Enlarging, Hole
from pipelines.spec import Canvas, OutpaintSide

GROW = 4  # of the upscaler
SHARE = 0.3  # of the height or the width, that a picture is continued by at a side


def hole_of(canvas: Canvas, pixels: Pixels, upload: Pixels | None) -> Hole | None:
    """The hole of a canvas; None where nothing of it is marked and no side is continued.

    pixels: (height, width, 3) uint8. upload: its mask, (h, w, 3) of any size; None marks nothing. Raises InputFault
    `image_too_small` when a side of the canvas is under 64 pixels.
    """
    height, width = pixels.shape[:2]
    check_sides(width, height, canvas.field)
    mask = mask_of(upload, height, width, canvas.grow, inverted=canvas.inverted)
    if not mask.any() and not canvas.outpaint:
        return None
    whole, mask = padded(pixels, mask, canvas.outpaint)
    box = area_of(mask, canvas.acting_field)
    small = shape_ceil(box.width, box.height) < canvas.resolution
    times = GROW if small else 1
    wide, tall = at_ceil(times * box.width, times * box.height, canvas.resolution)
    crop, marked, size = box.cut(whole), scaled_mask(box.cut(mask), tall, wide), latent_size(wide, tall)
    return Hole(
        canvas,
        whole,
        mask,
        box,
        stretch_to(crop, wide, tall),
        marked,
        Enlarging(crop, wide, tall, denoised=True) if small else None,
        size,
        latent_mask(marked, size.height // FACTOR, size.width // FACTOR),
    )


def padded(pixels: Pixels, mask: Mask, sides: Collection[OutpaintSide]) -> tuple[Pixels, Mask]:
    """The picture, (height, width, 3), and its mask with 30 % more at each of the sides, which the mask marks
    (fooocus-facts 6.3).

    Top and bottom both count from the height before either, left and right from the width before either.
    """
    rows, columns = (int(SHARE * length) for length in pixels.shape[:2])
    top, bottom = (rows if side in sides else 0 for side in ("Top", "Bottom"))
    left, right = (columns if side in sides else 0 for side in ("Left", "Right"))
    borders = ((top, bottom), (left, right))
    return np.pad(pixels, (*borders, (0, 0)), "edge"), np.pad(mask, borders, constant_values=255)
