"""Sizes taken from pictures: to begin from, to vary, to enlarge."""

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import InputFault
from pipelines.images.sizes import (
    EnlargedSize,
    at_ceil,
    fitted_size,
    latent_size,
    shape_ceil,
    size_of_start,
    size_to_enlarge,
    size_to_vary,
)
from pipelines.spec import Size


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


@pytest.mark.parametrize(
    ("height", "width", "resized"),
    [
        (500, 500, (1024, 1024)),
        (1080, 1920, (768, 1344)),
        (3000, 4000, (896, 1152)),
        (600, 1200, (704, 1344)),
        (1000, 1000, (1000, 1000)),
    ],
)
def test_the_published_vectors_of_resizing_to_a_ceil_of_1024(height: int, width: int, resized: tuple[int, int]) -> None:
    assert at_ceil(width, height, 1024) == resized[::-1]


def naive_ceil(width: int, height: int) -> int:
    side = 64
    while side * side < width * height:
        side += 64
    return side


def naive_at_ceil(width: int, height: int, wanted: int) -> tuple[int, int]:
    for _ in range(256):
        now = naive_ceil(width, height)
        if now == wanted:
            return width, height
        scale = wanted / now
        width = max(64, 64 * round(width * scale / 64))
        height = max(64, 64 * round(height * scale / 64))
    return width, height


SIDES = st.integers(64, 6000)


@given(SIDES, SIDES)
def test_sizes_to_vary_equal_a_naive_writing(width: int, height: int) -> None:
    wanted = min(2048, max(1024, naive_ceil(width, height)))
    assert shape_ceil(width, height) == naive_ceil(width, height)
    assert size_to_vary(width, height) == naive_at_ceil(width, height, wanted)


@given(SIDES, SIDES, st.sampled_from([1.5, 2.0]))
def test_enlarged_sizes_equal_a_naive_writing(width: int, height: int, factor: float) -> None:
    ceil_of_target = 64 * ceil((width * factor * height * factor) ** 0.5 / 64)
    try:
        found = size_to_enlarge(width, height, factor)
    except InputFault:
        assert int(width * factor) * int(height * factor) > 8192**2
        return
    if ceil_of_target < 1024:
        assert (found.width, found.height) == naive_at_ceil(4 * width, 4 * height, 1024)
    else:
        assert (found.width, found.height) == (int(width * factor), int(height * factor))
    assert found.denoised == (ceil_of_target <= 2800)


@pytest.mark.parametrize(
    ("given_size", "factor", "enlarged"),
    [
        ((1152, 896), 2, EnlargedSize(2304, 1792, denoised=True)),  # the example of fooocus-facts 7
        ((512, 512), 2, EnlargedSize(1024, 1024, denoised=True)),
        ((1024, 1024), 1.5, EnlargedSize(1536, 1536, denoised=True)),
        ((1001, 999), 1.5, EnlargedSize(1501, 1498, denoised=True)),
        ((100, 100), 2, EnlargedSize(1024, 1024, denoised=True)),
        ((256, 250), 2, EnlargedSize(1024, 1000, denoised=True)),  # four times as large it has that ceil
        ((1408, 1408), 2, EnlargedSize(2816, 2816, denoised=False)),
        ((4096, 4096), 2, EnlargedSize(8192, 8192, denoised=False)),
        # whose half pixels count for the ceil and not for the sides: it is 2816, and 1024 in what is kept as asked
        ((1835, 1835), 1.5, EnlargedSize(2752, 2752, denoised=False)),
        ((2990, 137), 1.5, EnlargedSize(4485, 205, denoised=True)),
    ],
)
def test_what_becomes_of_a_picture_to_enlarge(given_size: tuple[int, int], factor: float, enlarged: object) -> None:
    assert size_to_enlarge(*given_size, factor) == enlarged


@pytest.mark.parametrize("given_size", [(4097, 4096), (9000, 100), (200, 8192)])
def test_what_would_become_too_large_is_refused_with_what_would_fit(given_size: tuple[int, int]) -> None:
    with pytest.raises(InputFault) as caught:
        size_to_enlarge(*given_size, 2, field="uov_image_url")
    assert (caught.value.type, caught.value.field) == ("image_too_large", "uov_image_url")
    assert caught.value.ctx is not None
    fitting = size_to_enlarge(caught.value.ctx["max_width"], caught.value.ctx["max_height"], 2)
    assert fitting.width * fitting.height <= 8192**2


@pytest.mark.parametrize("given_size", [(63, 500), (500, 63)])
def test_a_picture_too_small_to_vary_or_to_enlarge_is_refused(given_size: tuple[int, int]) -> None:
    for fault in (lambda: size_to_vary(*given_size, field="a"), lambda: size_to_enlarge(*given_size, 2, field="a")):
        with pytest.raises(InputFault) as caught:
            fault()
        assert (caught.value.type, caught.value.field) == ("image_too_small", "a")


def test_the_vae_reads_multiples_of_8() -> None:
    assert latent_size(1003, 1000) == Size(width=1000, height=1000)


BOX = Size(width=512, height=512)


@pytest.mark.parametrize(
    ("given_size", "box", "keep_aspect", "crop", "drawn", "cut"),
    [
        ((640, 427), None, False, False, (640, 424), None),
        ((640, 427), None, True, False, (640, 416), None),
        ((640, 427), None, False, True, (640, 416), (624, 416)),
        ((640, 427), None, True, True, (640, 416), (624, 416)),
        ((640, 427), BOX, False, False, (512, 512), None),
        ((640, 427), BOX, True, False, (512, 352), None),
        ((640, 427), BOX, True, True, (512, 352), (512, 342)),
        ((427, 640), BOX, True, True, (352, 512), (342, 512)),
        ((640, 427), Size(width=520, height=512), False, True, (512, 512), (512, 504)),
        ((640, 640), BOX, True, True, (512, 512), None),
        ((4000, 3000), None, True, False, (1184, 896), None),
        ((4000, 10), BOX, True, False, (512, 64), None),
    ],
)
def test_how_a_start_picture_fits_into_a_size(
    given_size: tuple[int, int],
    box: Size | None,
    keep_aspect: bool,
    crop: bool,
    drawn: tuple[int, int],
    cut: tuple[int, int] | None,
) -> None:
    size, found = fitted_size(*given_size, box, keep_aspect=keep_aspect, crop=crop)
    assert ((size.width, size.height), found) == (drawn, cut)


@given(st.integers(64, 4000), st.integers(64, 4000), st.sampled_from([None, BOX, Size(width=1000, height=600)]))
def test_kept_proportions_are_near_in_multiples_of_32_and_exact_where_they_are_cut(
    width: int, height: int, box: Size | None
) -> None:
    if max(width, height) > 6 * min(width, height):
        return  # where 32 pixels are no small part of a side
    size, _ = fitted_size(width, height, box, keep_aspect=True, crop=False)
    again, cut = fitted_size(width, height, box, keep_aspect=True, crop=True)
    assert again == size
    assert size.width % 32 == size.height % 32 == 0
    if box is not None:
        assert size.width <= box.width + 16
        assert size.height <= box.height + 16
    wide, tall = cut or (size.width, size.height)
    assert wide <= size.width
    assert tall <= size.height
    assert abs(wide - tall * width / height) <= 2 * max(1, width / height) or max(wide, tall) < 100
