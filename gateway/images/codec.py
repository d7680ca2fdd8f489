"""Pictures as bytes and as pixels: what they are by content, how large by header, decoding, encoding, previews."""

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile, PngInfo
from PIL.WebPImagePlugin import WebPImageFile

from gateway.errors import ModelError, location
from gateway.images.avif import first_picture, is_avif
from gateway.images.mending import completed_jpeg, plain_png
from gateway.images.metadata import Metadata
from gateway.settings import OutputSettings
from gateway.work import ImageFormat, Preview
from pipelines.images.pixels import to_pixels

Pixels = npt.NDArray[np.uint8]

# A format's name is also the suffix of its files.
CONTENT_TYPES: Mapping[ImageFormat, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
"""What is drawn into."""
INPUT_TYPES: Mapping[str, str] = {
    **dict[str, str](CONTENT_TYPES.items()),
    "gif": "image/gif",
    "bmp": "image/bmp",
    "avif": "image/avif",
}
"""What is drawn from."""
SUFFIXES: Mapping[str, str] = {content_type: suffix for suffix, content_type in INPUT_TYPES.items()}

SOFTWARE, USER_COMMENT, MAKER_NOTE = 0x0131, 0x9286, 0x927C  # of EXIF

# The classes themselves rather than Image.open: no other format can be reached, and the cap is ours instead of Pillow's
# process-wide one, which warns.
_READERS: Mapping[str, type[ImageFile.ImageFile]] = {
    "image/png": PngImageFile,
    "image/jpeg": JpegImageFile,
    "image/webp": WebPImageFile,
    "image/gif": GifImageFile,
    "image/bmp": BmpImageFile,
    "image/avif": AvifImageFile,
}
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})  # their sizes tell one version from another, and from text


def sniff(content: bytes) -> str | None:
    """The content type of a picture of `INPUT_TYPES` by its first bytes; None for anything else."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "image/webp"
    if content.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if content.startswith(b"BM") and int.from_bytes(content[14:18], "little") in _BMP_HEADERS:
        return "image/bmp"
    if is_avif(content):
        return "image/avif"
    return None


def check_image(content: bytes, max_pixels: int, field: str) -> tuple[int, int, str]:
    """(width, height, content type) from the header alone; width and height as stored, before any EXIF orientation.

    field: where in the client's input the picture stands, dotted. Raises ModelError: `unsupported_image_format`,
    `image_too_large` (more than `max_pixels`, decided before anything is decoded) or `image_load_error`.
    """
    image, content_type = open_image(content, max_pixels, field)
    return image.width, image.height, content_type


def decode_image(content: bytes, max_pixels: int, field: str) -> Pixels:
    """The picture, of an animation the first frame, as (height, width, 3) uint8 RGB (`pipelines.images.pixels`).

    Raises what `check_image` raises; a truncated picture is an `image_load_error`, but a JPEG may lack its end mark.
    """
    image, content_type = open_image(content, max_pixels, field)
    with load_errors(field):
        try:
            return to_pixels(image)
        except OSError:
            if content_type != "image/jpeg":
                raise
            return _completed(content)


def _completed(content: bytes) -> Pixels:
    """A JPEG without its end mark. Raises OSError where more than that is missing: what follows then changes it."""
    one, other = (to_pixels(JpegImageFile(BytesIO(each))) for each in completed_jpeg(content))
    if not np.array_equal(one, other):
        raise OSError("the picture is truncated")
    return one


def encode_image(
    pixels: Pixels, format: ImageFormat, output: OutputSettings, metadata: Metadata | None = None
) -> bytes:
    """(height, width, 3) uint8 RGB as a file. png is lossless. metadata: what it says of its making, where the format
    has a place for it: text chunks, or EXIF as Fooocus fills it (fooocus-facts 8.5)."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    file = BytesIO()
    options: dict[str, Any]
    if format == "png":
        # of zlib's lowest level the search is dearer and the file larger than of its search for runs alone
        search = zlib.Z_RLE if output.png_compression == 1 else zlib.Z_DEFAULT_STRATEGY
        options = {"compress_level": output.png_compression, "compress_type": search}
        image.save(file, "PNG", **options, pnginfo=_chunks(metadata))
    elif format == "jpeg":
        smaller = output.jpeg_optimize
        options = {"quality": output.jpeg_quality, "optimize": smaller, "progressive": smaller}
        image.save(file, "JPEG", **options, exif=_exif(metadata))
    else:
        image.save(file, "WEBP", quality=output.webp_quality, exif=_exif(metadata))
    return file.getvalue()


def _chunks(metadata: Metadata | None) -> PngInfo:
    chunks = PngInfo()
    if metadata is not None:
        chunks.add_text("parameters", metadata.content)
        chunks.add_text("fooocus_scheme", metadata.scheme)
    return chunks


def _exif(metadata: Metadata | None) -> bytes:
    if metadata is None:
        return b""
    exif = Image.Exif()
    exif[SOFTWARE], exif[MAKER_NOTE] = metadata.software, metadata.scheme
    # plain where it can be, as Fooocus writes and reads it; else in the way that EXIF has for all letters
    plain = metadata.content.isascii()
    exif[USER_COMMENT] = metadata.content if plain else b"UNICODE\0" + metadata.content.encode("utf-16-be")
    return exif.tobytes()


def open_image(content: bytes, max_pixels: int, field: str) -> tuple[ImageFile.ImageFile, str]:
    """A picture and its content type, before its pixels are decoded. Raises what `check_image` raises."""
    content_type = sniff(content)
    if content_type is None:
        supported = list(INPUT_TYPES)
        msg = f"The file is not a picture of a supported format ({', '.join(supported)})."
        raise ModelError("unsupported_image_format", msg, location(field), ctx={"supported_formats": supported})
    # Some readers set memory aside for the whole picture as soon as they exist.
    declared = _declared_size(content, content_type)
    if declared is not None:
        _check_size(declared, max_pixels, field)
    with load_errors(field):
        if content_type == "image/png":
            content = plain_png(content)
        elif content_type == "image/avif":
            content = first_picture(content, max_pixels)
        image = _READERS[content_type](BytesIO(content))
    _check_size(image.size, max_pixels, field)
    return image, content_type


def _check_size(size: tuple[int, int], max_pixels: int, field: str) -> None:
    width, height = size
    if width * height <= max_pixels:
        return
    scale = sqrt(max_pixels / (width * height))
    raise ModelError(
        "image_too_large",
        f"The picture has {width} x {height} pixels; at most {max_pixels} pixels are accepted.",
        location(field),
        # The largest of the same shape.
        ctx={"max_height": max(1, int(height * scale)), "max_width": max(1, int(width * scale))},
    )


def _declared_size(content: bytes, content_type: str) -> tuple[int, int] | None:
    """Width and height as the first bytes of a PNG or WebP declare them; None where only the reader can tell."""
    if content_type == "image/png" and content[12:16] == b"IHDR" and len(content) >= 24:
        width, height = struct.unpack_from(">II", content, 16)
        return width, height
    kind = content[12:16] if content_type == "image/webp" else b""
    if kind == b"VP8X":
        return 1 + int.from_bytes(content[24:27], "little"), 1 + int.from_bytes(content[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(content[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and len(content) >= 30:
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


@contextmanager
def load_errors(field: str) -> Iterator[None]:
    """For calls into a decoder alone, which may raise anything for a broken picture; only lack of memory is ours."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        msg = "The picture could not be read; it is damaged or incomplete."
        raise ModelError("image_load_error", msg, location(field)) from error


CONTENT_TYPE = "image/jpeg"
MAX_BYTES = 20_000  # of all pictures of a preview together
VEILED = 4  # pixels of a preview, each way, that become one where the safety checker has the last word
QUALITIES = (85, 70, 50, 30)


def preview_of(pixels: npt.NDArray[np.uint8], step: int, steps: int, *, veiled: bool) -> Preview:
    """The pictures of `pixels` (n, h, w, 3) as JPEG, of at most `MAX_BYTES` together.

    veiled: so coarse that nothing is recognised in them that the safety checker may later black out.
    """
    pictures = [Image.fromarray(each) for each in pixels]
    if veiled:
        pictures = [picture.reduce(VEILED) for picture in pictures]
    contents, (width, height) = _fitting(pictures, MAX_BYTES // len(pictures))
    return Preview(step, steps, contents, CONTENT_TYPE, width, height)


def _fitting(pictures: Sequence[Image.Image], max_bytes: int) -> tuple[list[bytes], tuple[int, int]]:
    """The best files of at most `max_bytes` each, all of one quality and size, and that size."""
    while True:
        for quality in QUALITIES:
            contents = [_jpeg(picture, quality) for picture in pictures]
            if max(map(len, contents)) <= max_bytes or pictures[0].size == (1, 1):
                return contents, pictures[0].size
        pictures = [picture.reduce(2) for picture in pictures]


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    file = BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()
