"""What of a picture is fully transparent, as a mask."""

from io import BytesIO

import pytest
from PIL import Image

from gateway.errors import ModelError
from gateway.images.transparency import transparent_mask
from tests.gateway.picture_files import png_header, saved


def masked(image: Image.Image, format: str = "PNG", **options: object) -> Image.Image | None:
    found = transparent_mask(saved(image, format, **options), 10_000, "image")
    return None if found is None else Image.open(BytesIO(found))


def test_what_is_fully_transparent_is_white() -> None:
    image = Image.new("RGBA", (4, 2), (255, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    image.putpixel((2, 0), (0, 0, 0, 1))  # hardly to be seen, and there
    mask = masked(image)
    assert mask is not None
    assert (mask.mode, mask.size) == ("L", (4, 2))
    assert [mask.getpixel((x, 0)) for x in range(4)] == [0, 255, 0, 0]


def test_a_palettes_clear_colour_counts() -> None:
    mask = masked(Image.new("P", (2, 2), 0), transparency=0)
    assert mask is not None
    assert mask.getextrema() == (255, 255)


def test_the_mask_is_turned_as_the_picture_is() -> None:
    image = Image.new("RGBA", (4, 2), "red")
    image.putpixel((0, 0), (0, 0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise
    mask = masked(image, exif=exif)
    assert mask is not None
    assert (mask.size, mask.getpixel((1, 0))) == ((2, 4), 255)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_a_picture_without_a_hole_has_none(mode: str) -> None:
    assert masked(Image.new(mode, (4, 2), "red" if mode != "L" else 7)) is None


@pytest.mark.parametrize(
    ("content", "type"), [(b"no picture", "unsupported_image_format"), (png_header(200, 200), "image_too_large")]
)
def test_what_cannot_be_read_is_a_fault_of_its_field(content: bytes, type: str) -> None:
    with pytest.raises(ModelError) as fault:
        transparent_mask(content, 10_000, "mask")
    assert (fault.value.type, fault.value.loc) == (type, ("mask",))
