"""Pictures: recognised by content, measured by header, decoded to upright RGB, encoded."""

import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from skimage import data

from gateway.errors import ModelError
from gateway.images.codec import CONTENT_TYPES, check_image, decode_image, encode_image, sniff
from gateway.settings import OutputSettings
from gateway.work import ImageFormat
from tests.gateway.picture_files import png_header, saved, webp_header

CAP = 10_000


def corners(width: int = 24, height: int = 16) -> Image.Image:
    """Black with a red top left and a green top right corner."""
    image = Image.new("RGB", (width, height))
    image.paste((255, 0, 0), (0, 0, 8, 8))
    image.paste((0, 255, 0), (width - 8, 0, width, 8))
    return image


def fault(content: bytes, type: str, max_pixels: int = CAP) -> ModelError:
    with pytest.raises(ModelError) as caught:
        decode_image(content, max_pixels, "image_prompts.1.image_url")
    assert caught.value.type == type
    assert caught.value.loc == ("image_prompts", 1, "image_url")
    return caught.value


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF"])
def test_the_formats_are_known_by_content(format: str) -> None:
    content = saved(corners(), format)
    assert sniff(content) == f"image/{format.lower()}"
    assert check_image(content, CAP, "") == (24, 16, f"image/{format.lower()}")
    assert decode_image(content, CAP, "").shape == (16, 24, 3)


@pytest.mark.parametrize("format", ["TIFF", "PPM"])
def test_other_formats_are_refused_by_name(format: str) -> None:
    found = fault(saved(corners(), format), "unsupported_image_format")
    assert found.ctx == {"supported_formats": ["png", "jpeg", "webp", "gif", "bmp", "avif"]}


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "AVIF"])
def test_of_an_animation_the_first_frame_is_taken(format: str) -> None:
    content = saved(corners(), format, save_all=True, append_images=[Image.new("RGB", (24, 16), "blue")])
    red, _, blue = decode_image(content, CAP, "")[4, 4].tolist()
    assert red > 245
    assert blue < 10


@pytest.mark.parametrize("format", ["GIF", "BMP", "AVIF"])
def test_every_format_has_the_same_cap(format: str) -> None:
    content = saved(Image.new("L", (200, 100)), format)
    assert decode_image(content, 20_000, "").shape == (100, 200, 3)
    fault(content, "image_too_large", 19_999)


def test_a_text_that_begins_as_a_bitmap_is_none() -> None:
    assert sniff(b"BMW builds cars, and this is a text about them") is None


@pytest.mark.parametrize("content", [b"", b"hello", b"<svg/>", b"RIFF\0\0\0\0WAVE", b"BM", b"GIF"])
def test_what_is_no_picture_is_refused(content: bytes) -> None:
    assert sniff(content) is None
    fault(content, "unsupported_image_format")


@pytest.mark.parametrize("header", [png_header, webp_header])
def test_a_header_of_300_megapixels_is_refused_before_decoding(header: object) -> None:
    assert callable(header)
    found = fault(header(20_000, 15_000), "image_too_large", 4_000_000)
    assert found.ctx is not None
    width, height = found.ctx["max_width"], found.ctx["max_height"]
    assert width * height <= 4_000_000
    assert (width + 1) / (height + 1) == pytest.approx(4 / 3, rel=1e-2)


def test_the_cap_is_ours_above_the_library_s_own() -> None:
    """A flat picture over Pillow's warning threshold is accepted when the settings say so."""
    content = saved(Image.new("1", (10_000, 9_000)), "PNG")
    assert check_image(content, 100_000_000, "") == (10_000, 9_000, "image/png")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF"])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
def test_a_truncated_picture_is_a_load_error(format: str, share: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    content = saved(noise, format)
    fault(content[: max(12, int(len(content) * share))], "image_load_error")


def test_a_header_without_a_picture_is_a_load_error() -> None:
    fault(png_header(8, 8), "image_load_error")
    fault(png_header(0, 8), "image_load_error")
    fault(webp_header(8, 8), "image_load_error")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(orientation: int) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = corners()
    stored = upright if orientation == 1 else upright.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(decode_image(saved(stored, "PNG", exif=exif), CAP, ""), np.asarray(upright))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")
def test_broken_exif_data_does_not_make_a_picture_unreadable() -> None:
    broken = b"Exif\0\0MM\0*\0\0\0\x08\0\x09" + struct.pack(">HHII", 0x0112, 3, 900_000, 0xFFFFFF) + b"\0" * 3
    assert decode_image(saved(corners(), "JPEG", exif=broken), CAP, "").shape == (16, 24, 3)


def test_transparency_is_laid_on_white() -> None:
    half = Image.new("RGBA", (8, 8), (255, 0, 0, 128))
    assert decode_image(saved(half, "PNG"), CAP, "")[0, 0].tolist() == pytest.approx([255, 127, 127], abs=1)
    clear = Image.new("LA", (8, 8), (0, 0))
    assert decode_image(saved(clear, "PNG"), CAP, "")[0, 0].tolist() == [255, 255, 255]
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 0, 0, 255])
    assert decode_image(saved(palette, "PNG"), CAP, "")[0, 0].tolist() == [0, 0, 255]
    assert decode_image(saved(palette, "PNG", transparency=1), CAP, "")[0, 0].tolist() == [255, 255, 255]


def test_gray_is_repeated_and_16_bits_are_reduced() -> None:
    gray = Image.new("L", (8, 8), 77)
    assert decode_image(saved(gray, "PNG"), CAP, "")[0, 0].tolist() == [77, 77, 77]
    deep = Image.fromarray(np.full((8, 8), 77 * 256 + 200, dtype=np.uint16))
    assert decode_image(saved(deep, "PNG"), CAP, "")[0, 0].tolist() == [77, 77, 77]


def test_cmyk_is_converted() -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert decode_image(saved(image, "JPEG", quality=100), CAP, "")[4, 4].tolist() == pytest.approx([255, 0, 0], abs=3)


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_the_first_frame_of_an_animation_is_taken(format: str) -> None:
    red, blue = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    options = {"save_all": True, "append_images": [blue]} | ({"lossless": True} if format == "WEBP" else {})
    assert decode_image(saved(red, format, **options), CAP, "")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(("format", "tolerance"), [("png", 0), ("jpeg", 3), ("webp", 3)])
def test_what_is_encoded_decodes_to_the_same_picture(format: ImageFormat, tolerance: int) -> None:
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    pixels = np.stack(
        [np.broadcast_to(ramp, (64, 64)), np.broadcast_to(ramp[:, None], (64, 64)), np.full((64, 64), 99)]
    )
    pixels = pixels.astype(np.uint8).transpose(1, 2, 0)
    content = encode_image(pixels, format, OutputSettings())
    assert sniff(content) == CONTENT_TYPES[format]
    error = np.abs(decode_image(content, CAP, "").astype(int) - pixels)
    assert error.mean() <= tolerance
    assert encode_image(pixels, format, OutputSettings()) == content


def test_noise_fits_the_encoder_s_buffers() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    assert sniff(encode_image(noise, "jpeg", OutputSettings())) == "image/jpeg"


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_less_quality_is_a_smaller_file(format: ImageFormat) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    sizes = [
        len(encode_image(noise, format, OutputSettings(jpeg_quality=each, webp_quality=each))) for each in (95, 60, 20)
    ]
    assert sizes[0] > sizes[1] > sizes[2]


def test_more_compression_is_a_smaller_png_of_the_same_picture() -> None:
    flat = np.full((64, 64, 3), 7, np.uint8)
    none, most = (encode_image(flat, "png", OutputSettings(png_compression=each)) for each in (0, 9))
    assert len(none) > len(most)
    assert (decode_image(none, CAP, "") == decode_image(most, CAP, "")).all()


def test_png_by_default_is_as_small_as_by_a_slow_search_where_a_picture_is_no_drawing() -> None:
    photograph = data.astronaut()[:96, 180:276]
    default, slow = (
        encode_image(photograph, "png", each) for each in (OutputSettings(), OutputSettings(png_compression=6))
    )
    assert len(default) <= len(slow) * 1.02
    assert (decode_image(default, CAP, "") == photograph).all()


def test_an_optimised_jpeg_is_a_smaller_file_of_the_same_pixels() -> None:
    photograph = data.astronaut()[:96, 180:276]
    plain, smaller = (encode_image(photograph, "jpeg", OutputSettings(jpeg_optimize=each)) for each in (False, True))
    assert len(smaller) < len(plain)
    assert (decode_image(smaller, CAP, "") == decode_image(plain, CAP, "")).all()


def test_a_picture_says_nothing_of_its_making_unless_it_is_asked_to() -> None:
    for format in CONTENT_TYPES:
        read = Image.open(BytesIO(encode_image(np.zeros((8, 8, 3), np.uint8), format, OutputSettings())))
        assert not read.getexif()
        assert not getattr(read, "text", {})
