"""Row caps: of the sizes that were measured and of those between."""

import pytest

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
