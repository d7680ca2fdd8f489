"""What the images of a job share of the picture around their hole (fooocus-facts 6.4 to 6.6)."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from pipelines.device import PlainDevice
from pipelines.events import Pixels
from pipelines.images.hole import hole_of
from pipelines.inputs import Hole
from pipelines.repainting import read_hole
from pipelines.spec import Canvas
from pipelines.stages.fill import FillStage
from pipelines.stages.upscale import UpscaleStage, prepare_enlarging
from tests.pipelines.stages.driving import driven
from tests.pipelines.stages.test_fill import filled_by_pillow
from tests.pipelines.stages.test_upscale import Nearest

DEVICE = PlainDevice(torch.device("cpu"))
PHOTO = data.astronaut()
NOISE = np.random.default_rng(0).integers(0, 256, (64, 72, 3), dtype=np.uint8)


def hole(photo: Pixels, rows: slice, columns: slice, **given: Any) -> Hole:
    upload = np.zeros_like(photo)
    upload[rows, columns] = 255
    found = hole_of(Canvas(source="", respective_field=1.0, **given), photo, upload)
    assert found is not None
    return found


def begun(hole: Hole, *, enlarged: bool = False) -> tuple[Pixels, Pixels]:
    """What the run begins from, and what the head is shown. enlarged: by an upscaler that repeats pixels."""
    job = prepare_enlarging(hole.enlarging, Nearest(), DEVICE) if enlarged and hole.enlarging else None
    found = driven(read_hole(hole, job, DEVICE), [FillStage(), UpscaleStage(DEVICE)])
    return np.asarray(found.fill), np.asarray(found.around)


def test_the_head_is_shown_half_gray_in_the_hole_and_the_area_around() -> None:
    found = hole(PHOTO[:64, :96], slice(16, 40), slice(8, 48), resolution=64)
    _, around = begun(found)
    inside = found.marked > 127
    assert inside.any()
    assert (around[inside] / 255 == 0.5).all()
    assert np.array_equal(around[~inside], found.area[~inside])


@pytest.mark.parametrize(("strength", "fills"), [(1.0, True), (0.995, True), (0.99, False), (0.5, False)])
def test_the_hole_is_filled_only_where_next_to_nothing_of_it_remains(strength: float, *, fills: bool) -> None:
    found = hole(PHOTO[:64, :64], slice(16, 40), slice(8, 48), resolution=64, strength=strength)
    begins, _ = begun(found)
    assert np.array_equal(begins, filled_by_pillow(found.area, found.marked) if fills else found.area)
    assert np.array_equal(begins, found.area) is not fills


def test_what_is_outpainted_is_filled_whatever_the_strength() -> None:
    found = hole(PHOTO[:64, :64], slice(0), slice(0), resolution=64, strength=0.3, outpaint=("Left",))
    begins, _ = begun(found)
    assert np.array_equal(begins, filled_by_pillow(found.area, found.marked))
    assert not np.array_equal(begins, found.area)


def test_a_small_area_is_filled_from_what_the_upscaler_made_of_it() -> None:
    """Around a small hole noise that is enlarged by repeating pixels is far from noise that is stretched."""
    found = hole(NOISE, slice(30, 34), slice(20, 26), resolution=256)
    (begins, around), (height, width) = begun(found, enlarged=True), found.marked.shape
    fourfold = Image.fromarray(NOISE.repeat(4, axis=0).repeat(4, axis=1))
    wide = fourfold.resize((width, fourfold.height), Image.Resampling.LANCZOS)
    area = np.asarray(wide.resize((width, height), Image.Resampling.LANCZOS))
    expected = filled_by_pillow(area, found.marked)
    assert np.abs(begins.astype(int) - expected).max() <= 2
    assert np.abs(around - area)[found.marked == 0].max() <= 2
    stretched = filled_by_pillow(found.area, found.marked)
    assert np.abs(stretched.astype(int) - expected)[found.marked > 127].max() > 10


@pytest.mark.parametrize("enlarged", [False, True])
def test_of_sides_that_are_no_multiples_of_8_the_centre_is_drawn_after_all_was_filled(*, enlarged: bool) -> None:
    """An area of 79 x 80 has its size when it is enlarged, 316 x 320, and one of 316 x 314 as it is."""
    photo = PHOTO[: 79 if enlarged else 316, : 80 if enlarged else 314]
    found = hole(photo, slice(10, 30), slice(0, 40), resolution=320)
    begins, around = begun(found, enlarged=enlarged)
    area = photo.repeat(4, axis=0).repeat(4, axis=1) if enlarged else photo
    rows, columns = slice(2, 314), slice(0, 320) if enlarged else slice(1, 313)
    assert found.marked.shape == area.shape[:2]
    assert np.array_equal(begins, filled_by_pillow(area, found.marked)[rows, columns])
    assert around.shape == begins.shape
    assert found.repainted.shape == (begins.shape[0] // 8, begins.shape[1] // 8)
