"""A decoded picture as pixels, by one rule wherever one comes in: upright, three colours of eight bits, on white."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from PIL import Image

from pipelines.events import Pixels

_ORIENTATION = 0x0112
# EXIF 2.3, table of Orientation: what undoes each value.
_UPRIGHT: Mapping[int, Image.Transpose] = MappingProxyType(
    {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
)


def to_pixels(image: Image.Image) -> Pixels:
    """`image` upright as (height, width, 3) uint8 RGB.

    Gray is repeated, palettes and CMYK are converted, of 16 bits the high byte is taken, transparency lies on white; of
    an animation it is the frame that the image stands at. Raises whatever Pillow raises for broken data.
    """
    image.load()
    turn = _UPRIGHT.get(_orientation(image))
    picture = _rgb(image)
    return np.array(picture if turn is None else picture.transpose(turn), dtype=np.uint8)


def _orientation(image: Image.Image) -> int:
    """1, which is upright, where the EXIF data is broken or says no whole number: it is a picture all the same."""
    try:
        said = image.getexif().get(_ORIENTATION, 1)
    except MemoryError:
        raise
    except Exception:
        return 1
    return said if isinstance(said, int) else 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow would clip at 255 instead of taking the high byte, as it does for 16-bit colours.
        deep = np.asarray(image).astype(np.uint32)
        shades = (deep >> 8).astype(np.uint8)
        if (clear := image.info.get("transparency")) is not None:  # one shade, which Pillow forgets in converting
            shades[deep == clear] = 255
        return Image.fromarray(shades).convert("RGB")
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return image.convert("RGB")
