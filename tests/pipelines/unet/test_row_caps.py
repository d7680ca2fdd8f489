"""Row caps: of the sizes that were measured and of those between."""

import pytest

from pipelines.memory.plan import MemoryPlan
from pipelines.unet.row_caps import RowCaps

MEASURED = RowCaps(16, ((32 * 32, 16), (128 * 128, 4)))


def test_without_measurements_one_cap_holds_for_all_sizes() -> None:
    assert {RowCaps(8).at(pixels) for pixels in (64, 128**2, 512**2)} == {8}


@pytest.mark.parametrize(
    ("pixels", "rows"),
    [(32 * 32, 16), (128 * 128, 4), (64 * 128, 8), (16 * 16, 16), (128 * 256, 2), (512 * 512, 2)],
)
def test_a_size_follows_the_nearest_that_is_not_smaller(pixels: int, rows: int) -> None:
    assert MEASURED.at(pixels) == rows


@pytest.mark.parametrize(
    ("pixels", "rows"), [(16 * 16, 16), (32 * 32, 12), (64 * 64, 3), (128 * 128, 2), (256 * 256, 2)]
)
def test_what_memory_holds_bounds_what_gains_and_a_guided_pair_is_always_tried(pixels: int, rows: int) -> None:
    plan = MemoryPlan(memory=0, resident=True, parts=0, working=12 * 32 * 32, merged=0, row_pixel=1)
    assert RowCaps(16, MEASURED.measured, plan).at(pixels) == rows
    assert RowCaps(16, plan=plan).at(pixels) == rows


def test_what_memory_holds_beyond_what_gains_is_not_used() -> None:
    plan = MemoryPlan(memory=0, resident=True, parts=0, working=2**40, merged=0, row_pixel=1)
    assert RowCaps(16, MEASURED.measured, plan).at(128 * 128) == 4
