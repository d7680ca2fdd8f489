"""Making a canvas ready: mask, area and sizes, against the facts' vectors and a naive writing."""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from skimage import data

from pipelines.errors import InputFault
from pipelines.events import Pixels
from pipelines.images.area import Box, area_of
from pipelines.images.hole import hole_of, padded
from pipelines.images.masks import latent_mask, mask_of
from pipelines.images.paste import paste_area
from pipelines.images.sizes import at_ceil
from pipelines.inputs import Hole
from pipelines.spec import Canvas, OutpaintSide, Size

PHOTO = data.astronaut()[:128, :160]


def marked(height: int, width: int, rows: slice, columns: slice) -> npt.NDArray[np.uint8]:
    mask = np.zeros((height, width), np.uint8)
    mask[rows, columns] = 255
    return mask


def picture_of(mask: npt.NDArray[np.uint8]) -> Pixels:
    return np.repeat(mask[:, :, None], 3, axis=2)


def hole(upload: Pixels | None = None, photo: Pixels = PHOTO, **changes: Any) -> Hole:
    given = {"source": "", "resolution": 128, **changes}
    found = hole_of(Canvas(**given), photo, upload)
    assert found is not None
    return found


def naive_area(mask: npt.NDArray[np.uint8], field: float) -> tuple[int, int, int, int]:
    """fooocus-facts 6.4, pixel by pixel and round by round."""
    height, width = mask.shape
    at = [(row, column) for row in range(height) for column in range(width) if mask[row, column] > 0]
    rows, columns = sorted(row for row, _ in at), sorted(column for _, column in at)
    middle = (rows[0] + rows[-1]) // 2, (columns[0] + columns[-1]) // 2
    reach = int(1.15 * max((rows[-1] - rows[0]) // 2, (columns[-1] - columns[0]) // 2))
    a, b, c, d = middle[0] - reach, middle[0] + reach + 1, middle[1] - reach, middle[1] + reach + 1
    a, b, c, d = max(a, 0), min(b, height), max(c, 0), min(d, width)
    if field == 1:
        return 0, height, 0, width
    while not (b - a >= field * height and d - c >= field * width):
        of_rows = b - a < d - c
        of_columns = not of_rows
        if b - a == height:
            of_columns = True
        if d - c == width:
            of_rows = True
        if of_rows:
            a, b = a - 1, b + 1
        if of_columns:
            c, d = c - 1, d + 1
        a, b, c, d = max(a, 0), min(b, height), max(c, 0), min(d, width)
    return a, b, c, d


@pytest.mark.parametrize(
    ("size", "rows", "columns", "first", "grown"),
    [
        ((1000, 1000), (400, 500), (400, 500), (393, 506, 393, 506), (140, 759, 140, 759)),
        ((1024, 1536), (100, 300), (1200, 1500), (28, 371, 1178, 1521), (0, 949, 586, 1536)),
        ((800, 600), (0, 50), (0, 50), (0, 52, 0, 52), (0, 495, 0, 495)),
        ((1300, 1000), (1000, 1300), (0, 1000), (576, 1300, 0, 1000), (496, 1300, 0, 1000)),
    ],
)
def test_the_area_is_that_of_the_facts(
    size: tuple[int, int],
    rows: tuple[int, int],
    columns: tuple[int, int],
    first: tuple[int, int, int, int],
    grown: tuple[int, int, int, int],
) -> None:
    mask = marked(*size, slice(*rows), slice(*columns))
    assert area_of(mask, 0.0) == Box(*first)
    assert area_of(mask, 0.618) == Box(*grown)
    assert area_of(mask, 1.0) == Box(0, size[0], 0, size[1])


@pytest.mark.parametrize("seed", range(12))
def test_the_area_is_that_of_a_naive_writing(seed: int) -> None:
    chance = np.random.default_rng(seed)
    height, width = chance.integers(20, 60, 2)
    top, left = chance.integers(0, height), chance.integers(0, width)
    mask = marked(height, width, slice(top, top + chance.integers(1, 30)), slice(left, left + chance.integers(1, 30)))
    for field in (0.0, 0.3, 0.618, 0.95, 1.0):
        box = area_of(mask, field)
        assert (box.top, box.bottom, box.left, box.right) == naive_area(mask, field)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((500, 500), (1024, 1024)),
        ((1080, 1920), (768, 1344)),
        ((3000, 4000), (896, 1152)),
        ((600, 1200), (704, 1344)),
        ((1000, 1000), (1000, 1000)),
    ],
)
def test_an_area_is_drawn_at_about_a_megapixel(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    assert at_ceil(*size, 1024) == wanted


def test_a_hole_of_one_pixel_can_be_drawn() -> None:
    found = hole(picture_of(marked(128, 160, slice(50, 51), slice(60, 61))), respective_field=0.0)
    assert found.box == Box(50, 51, 60, 61)
    assert found.area.shape == (128, 128, 3)
    assert found.repainted.all()


def test_a_mask_is_what_is_above_half_on_the_mean_of_its_colours() -> None:
    upload = np.zeros((2, 3, 3), np.uint8)
    upload[0] = [[127, 127, 127], [128, 128, 128], [255, 128, 0]]
    upload[1] = [[255, 127, 0], [255, 255, 255], [0, 0, 0]]
    assert mask_of(upload, 2, 3).tolist() == [[0, 255, 255], [255, 255, 0]]


def test_a_mask_of_another_size_is_stretched() -> None:
    upload = picture_of(marked(40, 40, slice(0, 20), slice(0, 40)))
    assert np.array_equal(mask_of(upload, 128, 160), marked(128, 160, slice(0, 64), slice(0, 160)))


@pytest.mark.parametrize("grow", [-3, -1, 0, 1, 5])
def test_a_mask_grows_or_shrinks_before_it_is_inverted(grow: int) -> None:
    upload = picture_of(marked(64, 80, slice(20, 40), slice(30, 60)))
    wanted = marked(64, 80, slice(20 - grow, 40 + grow), slice(30 - grow, 60 + grow))
    assert np.array_equal(mask_of(upload, 64, 80, grow), wanted)
    assert np.array_equal(mask_of(upload, 64, 80, grow, inverted=True), 255 - wanted)


def test_without_a_mask_nothing_is_marked_and_inverted_everything() -> None:
    assert hole_of(Canvas(source="x"), PHOTO, None) is None
    assert hole_of(Canvas(source="x"), PHOTO, np.zeros_like(PHOTO)) is None
    assert hole_of(Canvas(source="x", grow=-10), PHOTO, picture_of(marked(128, 160, slice(9), slice(9)))) is None
    assert hole_of(Canvas(source="x", inverted=True), PHOTO, np.full_like(PHOTO, 255)) is None
    found = hole(inverted=True)
    assert found.box == Box(0, 128, 0, 160)
    assert found.repainted.all()


def test_a_full_mask_is_the_whole_picture() -> None:
    found = hole(np.full_like(PHOTO, 255), respective_field=0.0)
    assert found.box == Box(0, 128, 0, 160)
    assert (found.mask == 255).all()


@pytest.mark.parametrize(
    "sides", [("Top",), ("Bottom",), ("Left",), ("Right",), ("Top", "Bottom"), ("Left", "Right", "Top", "Bottom")]
)
def test_a_picture_is_continued_by_30_percent_of_its_border(sides: tuple[OutpaintSide, ...]) -> None:
    height, photo = 101, data.astronaut()[:101, :80]
    rows, columns = int(0.3 * height), int(0.3 * 80)
    top, left = rows * ("Top" in sides), columns * ("Left" in sides)
    whole, mask = padded(photo, marked(height, 80, slice(0), slice(0)), sides)
    tall = height + rows * sum(side in sides for side in ("Top", "Bottom"))
    wide = 80 + columns * sum(side in sides for side in ("Left", "Right"))
    assert whole.shape == (tall, wide, 3)
    assert np.array_equal(whole[top : top + height, left : left + 80], photo)
    assert not mask[top : top + height, left : left + 80].any()
    assert (mask == 0).sum() == height * 80
    near = np.clip(np.arange(tall) - top, 0, height - 1)[:, None], np.clip(np.arange(wide) - left, 0, 79)[None]
    assert np.array_equal(whole, photo[near])


def test_outpainting_looks_at_the_whole() -> None:
    assert hole(outpaint=("Left",), respective_field=0.1).box == Box(0, 128, 0, 208)


def test_a_small_area_is_enlarged_and_a_large_one_is_not() -> None:
    upload = picture_of(marked(128, 160, slice(40, 60), slice(40, 60)))
    small, large = hole(upload, resolution=192), hole(upload, resolution=128, respective_field=0.95)
    assert small.enlarging is not None
    assert np.array_equal(small.enlarging.pixels, small.box.cut(PHOTO))
    assert (small.enlarging.height, small.enlarging.width) == small.area.shape[:2]
    assert large.enlarging is None


def test_of_sides_that_are_no_multiples_of_8_their_multiples_are_drawn() -> None:
    photo = data.astronaut()[:125, :127]
    found = hole(np.full_like(photo, 255), photo)
    assert np.array_equal(found.area, photo)
    assert found.size == Size(width=120, height=120)
    assert found.repainted.shape == (15, 15)


def test_a_latent_is_drawn_anew_where_any_of_its_pixels_is() -> None:
    mask = marked(32, 24, slice(15, 17), slice(8, 9))
    wanted = np.zeros((4, 3))
    wanted[1:3, 1] = 1
    assert np.array_equal(latent_mask(mask, 4, 3), wanted)
    assert latent_mask(mask, 3, 3).shape == (3, 3)


def test_what_is_pasted_is_resized_to_its_box() -> None:
    mask = marked(128, 160, slice(60, 70), slice(80, 90))
    pasted = paste_area(np.full((64, 64, 3), 200, np.uint8), Box(20, 120, 30, 140), PHOTO, mask)
    assert (pasted[mask > 0] == 200).all()
    far = cv2.dilate(mask, np.ones((65, 65), np.uint8)) == 0
    np.testing.assert_array_equal(pasted[far], PHOTO[far])
    beside = np.abs(pasted[65, 91:99].astype(int) - 200).mean(axis=1)
    assert (beside < np.abs(PHOTO[65, 91:99].astype(int) - 200).mean(axis=1)).all()


def test_a_picture_that_is_too_small_is_the_clients_fault() -> None:
    with pytest.raises(InputFault) as caught:
        hole_of(Canvas(source="x", field="inpaint_image_url"), PHOTO[:63], None)
    assert (caught.value.type, caught.value.field) == ("image_too_small", "inpaint_image_url")
