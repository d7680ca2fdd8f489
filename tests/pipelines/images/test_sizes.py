"""The size taken from a start picture."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import InputFault
from pipelines.images.sizes import size_of_start


@pytest.mark.parametrize(
    ("given_size", "drawn"),
    [
        ((512, 512), (512, 512)),
        ((451, 300), (448, 296)),
        ((1024, 1024), (1024, 1024)),
        ((4096, 4096), (1024, 1024)),
        ((4000, 3000), (1176, 880)),
        ((3000, 4000), (880, 1176)),
        ((64, 71), (64, 64)),
        ((32768, 64), (16384, 64)),
        ((64, 60000), (64, 16384)),
    ],
)
def test_size_of_start(given_size: tuple[int, int], drawn: tuple[int, int]) -> None:
    size = size_of_start(*given_size)
    assert (size.width, size.height) == drawn


@given(st.integers(64, 20000), st.integers(64, 20000))
def test_never_larger_than_the_input_nor_than_a_megapixel_and_of_its_aspect(width: int, height: int) -> None:
    size = size_of_start(width, height)
    assert size.width <= width
    assert size.height <= height
    assert size.width * size.height <= 1024 * 1024
    if max(width, height) <= 256 * min(width, height):
        scale = min(1.0, (1024 * 1024 / (width * height)) ** 0.5)
        assert width * scale - 9 < size.width <= width * scale + 1e-6
        assert height * scale - 9 < size.height <= height * scale + 1e-6


@pytest.mark.parametrize("given_size", [(63, 500), (500, 63), (1, 1)])
def test_a_side_under_64_is_refused_with_the_limits(given_size: tuple[int, int]) -> None:
    with pytest.raises(InputFault) as caught:
        size_of_start(*given_size, field="image_url")
    assert caught.value.type == "image_too_small"
    assert caught.value.field == "image_url"
    assert caught.value.ctx == {"min_width": 64, "min_height": 64}
