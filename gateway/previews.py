"""Previews as files: small enough to go into an event."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from gateway.work import Preview

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
