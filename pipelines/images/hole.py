"""Making a canvas ready: its mask, the area that is drawn, and the pictures of that (fooocus-facts 6.2 to 6.6)."""

from pipelines.events import Pixels
from pipelines.images.area import area_of
from pipelines.images.fill import filled
from pipelines.images.masks import latent_mask, mask_of, scaled_mask
from pipelines.images.outpaint import padded
from pipelines.images.resize import centre_of, stretch_to
from pipelines.images.sizes import FACTOR, at_ceil, check_sides, latent_size, shape_ceil
from pipelines.inputs import Enlarging, Hole
from pipelines.spec import Canvas

FILLED_ABOVE = 0.99  # of the strength; at it and below the run begins from what is there
GROW = 4  # of the upscaler


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
    crop = box.cut(whole)
    area, marked = stretch_to(crop, wide, tall), scaled_mask(box.cut(mask), tall, wide)
    fill = filled(area, marked) if canvas.acting_strength > FILLED_ABOVE else None
    size = latent_size(wide, tall)
    centre = centre_of((tall, wide), (size.height, size.width))
    return Hole(
        canvas,
        whole,
        mask,
        box,
        area[centre],
        marked[centre],
        None if fill is None else fill[centre],
        Enlarging(crop, wide, tall, denoised=True) if small else None,
        latent_mask(marked, size.height // FACTOR, size.width // FACTOR),
    )
