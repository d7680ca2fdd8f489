"""Broken pictures: whatever their decoder makes of them is a fault of the request, never one of the service."""

import struct
from collections.abc import Callable
from contextlib import suppress
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from gateway.errors import ModelError
from gateway.images.codec import check_image, decode_image
from tests.gateway.picture_files import saved

CAP = 10_000
REFUSALS = {"unsupported_image_format", "image_too_large", "image_load_error"}


def exif(kind: int, value: bytes) -> bytes:
    """EXIF data whose orientation is one value of a TIFF type."""
    return b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHI", 0x0112, kind, 1) + value.ljust(4, b"\0") + b"\0" * 12


ORIENTATIONS = {
    "infinite": exif(11, struct.pack(">f", float("inf"))),
    "not a number": exif(11, struct.pack(">f", float("nan"))),
    "ratio": exif(5, struct.pack(">I", 26)),
    "text": exif(2, b"6"),
    "huge": exif(4, b"\xff" * 4),
}


def samples() -> list[bytes]:
    """Small pictures of each format with the chunks that decoders read: palettes, profiles, EXIF, text, frames."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 24, 4), dtype=np.uint8)
    colours, clear = Image.fromarray(noise[..., :3]), Image.fromarray(noise)
    palette = colours.quantize(16)
    text = PngInfo()
    text.add_text("Comment", "words", zip=True)
    text.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    upright = exif(3, b"\0\x06")
    profile = b"\0" * 128
    return [
        saved(colours, "PNG", exif=upright, pnginfo=text, icc_profile=profile, dpi=(72, 72)),
        saved(palette, "PNG", transparency=3),
        saved(Image.fromarray(noise[..., 0].astype(np.uint16) * 257), "PNG"),
        saved(clear, "PNG", save_all=True, append_images=[clear.rotate(90)]),
        saved(colours, "JPEG", exif=upright, icc_profile=profile),
        saved(colours, "JPEG", progressive=True, subsampling=2, comment=b"words"),
        saved(colours.convert("CMYK"), "JPEG"),
        saved(colours, "WEBP", exif=upright),
        saved(clear, "WEBP", lossless=True),
        saved(clear, "WEBP", save_all=True, append_images=[clear.rotate(90)]),
        saved(palette, "GIF", save_all=True, append_images=[palette.rotate(90)]),
        saved(palette, "BMP"),
        saved(clear, "AVIF", speed=10),
        saved(colours, "AVIF", speed=10, save_all=True, append_images=[colours.rotate(90)]),
    ]


SAMPLES = tuple(samples())


def mutated(content: bytes, seed: int) -> bytes:
    """`content` with a few bytes changed, doubled, left out or cut off; the first twelve stay, which tell its kind."""
    chance, bytes_ = Random(seed), bytearray(content)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(12, max(13, len(bytes_)))
        match chance.randrange(5):
            case 0:
                bytes_[at : at + 1] = chance.randbytes(1)
            case 1:
                bytes_[at : at + 4] = chance.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\x80\0\0"))
            case 2:
                del bytes_[at : at + chance.randint(1, 16)]
            case 3:
                bytes_[at:at] = bytes_[at : at + chance.randint(1, 16)]
            case _:
                bytes_[at:] = bytes_[at:][: chance.randrange(len(bytes_) + 1)]
    return bytes(bytes_)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=1500, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(SAMPLES), st.integers(0, 2**32))
def test_a_mutated_picture_is_drawn_from_or_refused(content: bytes, seed: int) -> None:
    broken = mutated(content, seed)
    for read in (check_image, decode_image):
        assert refusal(read, broken) in {None, *REFUSALS}


def refusal(read: Callable[[bytes, int, str], object], content: bytes) -> str | None:
    try:
        read(content, CAP, "image_url")
    except ModelError as fault:
        return fault.type
    return None


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", ORIENTATIONS.values(), ids=ORIENTATIONS.keys())
def test_a_picture_whose_orientation_is_no_number_is_taken_as_it_is(format: str, orientation: bytes) -> None:
    content = saved(Image.new("RGB", (24, 16)), format, exif=orientation)
    assert decode_image(content, CAP, "").shape == (16, 24, 3)


class OddError(Exception):
    """What no decoder was seen to raise yet."""


@pytest.mark.parametrize("method", ["__init__", "load", "getexif", "convert"])
def test_whatever_a_decoder_raises_is_the_pictures_fault(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    def raising(*_: object, **__: object) -> None:
        raise OddError

    content = saved(Image.new("RGB", (8, 8)), "PNG")
    monkeypatch.setattr(PngImageFile, method, raising)
    if method == "getexif":
        assert decode_image(content, CAP, "").shape == (8, 8, 3)  # of which only the orientation is wanted
        return
    with pytest.raises(ModelError) as caught:
        decode_image(content, CAP, "image_url")
    assert (caught.value.type, caught.value.loc) == ("image_load_error", ("image_url",))


@pytest.mark.parametrize("method", ["__init__", "load", "getexif", "convert"])
def test_lack_of_memory_is_not(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    def raising(*_: object, **__: object) -> None:
        raise MemoryError

    content = saved(Image.new("RGB", (8, 8)), "PNG")
    monkeypatch.setattr(PngImageFile, method, raising)
    with pytest.raises(MemoryError):
        decode_image(content, CAP, "")


def test_a_flat_picture_in_few_bytes_is_measured_before_it_is_decoded() -> None:
    """A lossless WebP of a single colour: its reader sets memory aside as soon as it exists."""
    content = saved(Image.new("RGB", (4000, 4000)), "WEBP", lossless=True)
    for size in range(25, len(content)):
        with pytest.raises(ModelError) as caught, suppress(MemoryError):
            check_image(content[:size], CAP, "")
        assert caught.value.type == "image_too_large"
