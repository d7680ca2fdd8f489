"""Pasting what was drawn in a hole."""

import numpy as np
import numpy.typing as npt
import pytest

from pipelines.images.paste import paste, soft_mask

SIDE = 128
HOLE = slice(50, 60)


def holed() -> npt.NDArray[np.uint8]:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[HOLE, HOLE] = 255
    return mask


@pytest.mark.parametrize(("away", "level"), [(0, 255), (1, 248), (31, 8), (32, 0), (60, 0)])
def test_the_mask_falls_off_within_32_pixels(away: int, level: int) -> None:
    soft = soft_mask(holed())
    last = HOLE.stop - 1
    assert soft[55, last + away] == level
    if away < HOLE.start:
        assert soft[HOLE.start - away, HOLE.start - away] == level  # a diagonal step counts as one


def test_a_mask_counts_above_127_only() -> None:
    mask = np.full((4, 4), 127, np.uint8)
    assert not soft_mask(mask).any()
    mask[0, 0] = 128
    assert soft_mask(mask)[0].tolist() == [255, 248, 240, 232]


def test_the_hole_is_what_was_drawn_and_what_is_far_from_it_is_untouched() -> None:
    chance = np.random.default_rng(1)
    drawn, original = chance.integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    mask = holed()
    pasted = paste(drawn, original, mask)
    far = np.ones_like(mask, np.bool_)
    reach = slice(HOLE.start - 31, HOLE.stop + 31)
    far[reach, reach] = False
    np.testing.assert_array_equal(pasted[mask > 0], drawn[mask > 0])
    np.testing.assert_array_equal(pasted[far], original[far])


def test_between_them_both_show() -> None:
    drawn, original = np.full((SIDE, SIDE, 3), 200, np.uint8), np.full((SIDE, SIDE, 3), 100, np.uint8)
    pasted = paste(drawn, original, holed())
    assert pasted[55, HOLE.stop - 1 + 3, 0] == 190  # 190.98, truncated


def test_a_mask_of_another_size_or_kind_is_refused() -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="mask is of bool"):
        paste(picture, picture, np.zeros((8, 8), np.bool_))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"mask \(4, 4\) differ in size"):
        paste(picture, picture, np.zeros((4, 4), np.uint8))
