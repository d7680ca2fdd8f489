"""A decoded picture as pixels, by one rule wherever one comes in: upright, three colours of eight bits, on white."""

import numpy as np
from PIL import Image, ImageOps

from pipelines.events import Pixels


def to_pixels(image: Image.Image) -> Pixels:
    """`image` upright as (height, width, 3) uint8 RGB.

    Gray is repeated, palettes and CMYK are converted, of 16 bits the high byte is taken, transparency lies on white; of
    an animation it is the frame that the image stands at. The image itself is turned. Raises whatever Pillow raises for
    broken data.
    """
    image.load()
    _turn_upright(image)
    return np.array(_rgb(image), dtype=np.uint8)


def _turn_upright(image: Image.Image) -> None:
    """Where its EXIF says no orientation, or is broken before it says one, it is a picture all the same.

    In place, so that what is upright is not copied, and what is turned stays so where only the rest of its EXIF is
    broken.
    """
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    except Exception:
        return


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
