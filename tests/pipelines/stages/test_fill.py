"""Filling holes: to the bit what Pillow's box blurs make of them."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from skimage import data

from pipelines.device import PlainDevice
from pipelines.events import Pixels
from pipelines.images.masks import Mask
from pipelines.stages.fill import FillStage, box_blurred, fill
from tests.pipelines.stages.driving import driven

PHOTO = data.astronaut()
BLURS = ((512, 2), (256, 2), (128, 4), (64, 4), (33, 8), (15, 8), (5, 16), (3, 16))  # fooocus-facts 6.5


def filled(pixels: Pixels, mask: Mask) -> Pixels:
    routine = fill(torch.tensor(pixels), mask, PlainDevice(torch.device("cpu")))
    found: Pixels = driven(routine, [FillStage()]).numpy()
    return found


def filled_by_pillow(pixels: Pixels, mask: Mask) -> Pixels:
    """fooocus-facts 6.5, blur by blur."""
    current = pixels
    for radius, repeats in BLURS:
        for _ in range(repeats):
            blurred = np.asarray(Image.fromarray(current).filter(ImageFilter.BoxBlur(radius)))
            current = np.where((mask < 127)[:, :, None], pixels, blurred)
    return current


def marked(height: int, width: int, rows: slice, columns: slice) -> Mask:
    mask = np.zeros((height, width), np.uint8)
    mask[rows, columns] = 255
    return mask


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [
        (48, 64, slice(10, 38), slice(20, 50)),
        (64, 48, slice(0, 64), slice(0, 20)),
        (40, 56, slice(0, 40), slice(0, 56)),
        (80, 70, slice(79, 80), slice(69, 70)),
        (9, 300, slice(2, 5), slice(100, 260)),
        (400, 330, slice(150, 260), slice(100, 230)),
    ],
)
@pytest.mark.parametrize("noisy", [False, True])
def test_a_hole_is_filled_as_pillow_fills_it(
    height: int, width: int, rows: slice, columns: slice, *, noisy: bool
) -> None:
    noise = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    photo = noise if noisy else PHOTO[100 : 100 + height, 100 : 100 + width]
    mask = marked(height, width, rows, columns)
    assert np.array_equal(filled(photo, mask), filled_by_pillow(photo, mask))


def test_a_hole_of_any_shape_is_filled_and_nothing_else_is_touched() -> None:
    photo = PHOTO[100:160, 200:290]
    mask = np.where(np.random.default_rng(0).random((60, 90)) < 0.3, np.uint8(255), np.uint8(0))
    found = filled(photo, mask)
    assert np.array_equal(found, filled_by_pillow(photo, mask))
    assert np.array_equal(found[mask == 0], photo[mask == 0])
    assert (found[mask > 0] != photo[mask > 0]).mean() > 0.5


def test_where_nothing_is_marked_nothing_is_filled() -> None:
    photo = PHOTO[:16, :24]
    assert np.array_equal(filled(photo, np.zeros((16, 24), np.uint8)), photo)


@pytest.mark.parametrize("radius", [radius for radius, _ in BLURS])
@pytest.mark.parametrize("level", [1, 128, 255])
def test_no_level_is_lost_in_32_bits(radius: int, level: int) -> None:
    pixels = torch.full((3, 12, 1100), level, dtype=torch.int32)
    assert (box_blurred(pixels, radius, slice(0, 12), slice(0, 1100)) == level).all()
