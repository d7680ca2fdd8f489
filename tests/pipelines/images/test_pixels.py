"""One rule for every kind of picture, whichever door it comes in by: the service's and the command line's."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gateway.images.codec import decode_image
from pipelines.events import Pixels
from pipelines.images.files import read_picture

CAP = 40_000_000

RAMP = np.arange(16, dtype=np.uint8).reshape(4, 4) * 16  # a gray picture of 4 x 4 pixels
COLOURS = np.stack([RAMP, RAMP.T, 255 - RAMP], axis=2)


def door_of_the_service(content: bytes, folder: Path) -> Pixels:
    return decode_image(content, CAP, "image_url")


def door_of_the_command_line(content: bytes, folder: Path) -> Pixels:
    (folder / "picture").write_bytes(content)
    return read_picture(folder / "picture")


def saved(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def deep(values: np.ndarray[tuple[int, ...], np.dtype[np.uint16]], colour_type: int, clear: int | None = None) -> bytes:
    """A PNG of 16 bits, which Pillow writes of gray alone. values: (height, width, channels). clear: of gray."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)),
            b"" if clear is None else chunk(b"tRNS", struct.pack(">H", clear)),
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        ]
    )


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side: to be turned by 270 degrees
    return saved(Image.fromarray(COLOURS).transpose(Image.Transpose.ROTATE_90), exif=exif)


def in_gray_of(shades: Pixels) -> Pixels:
    return np.repeat(shades[:, :, None], 3, axis=2)


WIDE = RAMP.astype(np.uint16) * 256 + 255
CLEAR = np.where(np.eye(4) > 0, 0, 255).astype(np.uint8)  # transparent on the diagonal
ON_WHITE = np.where(np.eye(4) > 0, 255, RAMP).astype(np.uint8)
HALF = np.where(RAMP >= 128, 255, 0).astype(np.uint8)

KINDS: dict[str, tuple[bytes, Pixels]] = {
    "RGB": (saved(Image.fromarray(COLOURS)), COLOURS),
    "gray": (saved(Image.fromarray(RAMP)), in_gray_of(RAMP)),
    "1 bit": (saved(Image.fromarray(HALF).convert("1")), in_gray_of(HALF)),
    "palette": (saved(Image.fromarray(COLOURS).quantize(16)), COLOURS),
    "16 bits of gray": (deep(WIDE[:, :, None], 0), in_gray_of(RAMP)),
    "16 bits of gray, one shade clear": (
        deep(np.where(np.eye(4) > 0, 77, WIDE)[:, :, None].astype(np.uint16), 0, clear=77),
        in_gray_of(ON_WHITE),
    ),
    "16 bits of gray with alpha": (
        deep(np.stack([WIDE, CLEAR.astype(np.uint16) * 257], axis=2), 4),
        in_gray_of(ON_WHITE),
    ),
    "16 bits of colours": (deep(COLOURS.astype(np.uint16) * 256 + 255, 2), COLOURS),
    "gray with alpha": (
        saved(Image.merge("LA", (Image.fromarray(RAMP), Image.fromarray(CLEAR)))),
        in_gray_of(ON_WHITE),
    ),
    "colours with alpha": (
        saved(Image.fromarray(np.dstack([in_gray_of(RAMP), CLEAR]))),
        in_gray_of(ON_WHITE),
    ),
    "turned by EXIF": (turned(), COLOURS),
}


@pytest.mark.parametrize("door", [door_of_the_service, door_of_the_command_line])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_picture_has_the_same_pixels_by_every_door(
    kind: str, door: Callable[[bytes, Path], Pixels], tmp_path: Path
) -> None:
    content, expected = KINDS[kind]
    found = door(content, tmp_path)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("door", [door_of_the_service, door_of_the_command_line])
def test_cmyk_is_converted_by_every_door(door: Callable[[bytes, Path], Pixels], tmp_path: Path) -> None:
    red = saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    assert door(red, tmp_path)[4, 4].tolist() == pytest.approx([255, 0, 0], abs=3)


@pytest.mark.parametrize("door", [door_of_the_service, door_of_the_command_line])
def test_a_large_photograph_comes_in_by_every_door(door: Callable[[bytes, Path], Pixels], tmp_path: Path) -> None:
    large = Image.fromarray(COLOURS).resize((4096, 4096), Image.Resampling.BILINEAR)
    exif = Image.Exif()
    exif[0x0112] = 3
    found = door(saved(large, "JPEG", quality=95, exif=exif), tmp_path)
    assert found.shape == (4096, 4096, 3)
    upright = np.asarray(large)[::-1, ::-1][::64, ::64].astype(int)
    assert np.abs(found[::64, ::64].astype(int) - upright).mean() < 3
