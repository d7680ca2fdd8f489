"""What is beside the pixels costs no picture; pixels that are missing do."""

import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gateway.errors import ModelError
from gateway.images.codec import decode_image
from gateway.images.mending import plain_png
from tests.gateway.picture_files import saved

CAP = 100_000
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 64, 3), dtype=np.uint8))
LARGE = 1024 * 1024 + 1


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def beside(kind: bytes, data: bytes, at_end: bool = False) -> bytes:
    """A PNG with one more chunk, before its pixels or behind them."""
    content = saved(NOISE, "PNG")
    place = content.index(b"IEND") - 4 if at_end else 8 + 25
    return content[:place] + chunk(kind, data) + content[place:]


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (b"iCCP", b"profile\0\0" + zlib.compress(bytes(LARGE))),
        (b"iCCP", b"profile\0\x07what"),
        (b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * LARGE)),
        (b"zTXt", b"Comment\0\x07what"),
        (b"iTXt", b"Comment\0\x01\0\0\0" + zlib.compress(b"a" * LARGE)),
        (b"tEXt", b"workflow\0" + b"a" * LARGE),
    ],
)
def test_a_png_with_large_or_broken_chunks_beside_its_pixels_is_read(kind: bytes, data: bytes, at_end: bool) -> None:
    assert np.array_equal(decode_image(beside(kind, data, at_end), CAP, ""), np.asarray(NOISE))


def test_many_texts_are_too_much_together_as_well() -> None:
    texts = PngInfo()
    for number in range(8):
        texts.add_text(f"Comment {number}", "a" * (LARGE // 4), zip=True)
    content = saved(NOISE, "PNG", pnginfo=texts)
    assert len(plain_png(content)) < len(content)
    assert np.array_equal(decode_image(content, CAP, ""), np.asarray(NOISE))


@pytest.mark.parametrize("zip", [False, True])
def test_a_text_that_says_which_side_is_up_still_does(zip: bool) -> None:
    texts = PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>', zip=zip)
    assert decode_image(saved(NOISE, "PNG", pnginfo=texts), CAP, "").shape == (64, 96, 3)


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_whatever_a_png_lacks_at_its_end_it_is_no_fault_of_the_service(cut: int) -> None:
    content = beside(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * LARGE), at_end=True)
    with suppress(ModelError):
        assert decode_image(content[:-cut], CAP, "").shape == (96, 64, 3)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("picture", [NOISE, NOISE.convert("L"), Image.new("RGB", (64, 96), "red")])
def test_a_jpeg_without_its_end_mark_is_read(picture: Image.Image, progressive: bool) -> None:
    content = saved(picture, "JPEG", progressive=progressive, quality=95)
    whole = decode_image(content, CAP, "")
    for lacking in (content[:-2], content[:-1], content[:-2] + bytes(50)):
        assert np.array_equal(decode_image(lacking, CAP, ""), whole)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("picture", [NOISE, Image.new("RGB", (640, 960), "red")])
@pytest.mark.parametrize("share", [0.5, 0.7, 0.9, 0.97])
def test_a_part_of_a_jpeg_is_none(share: float, picture: Image.Image, progressive: bool) -> None:
    content = saved(picture, "JPEG", progressive=progressive, quality=95)
    with pytest.raises(ModelError) as caught:
        decode_image(content[: int(len(content) * share)], 1_000_000, "image_url")
    assert caught.value.type == "image_load_error"
