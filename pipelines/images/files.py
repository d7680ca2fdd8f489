"""Pictures from and to files."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from pipelines.errors import InputFault
from pipelines.events import Pixels


def read_picture(path: Path, field: str = "") -> Pixels:
    """The picture in a file, upright, as (height, width, 3) uint8 RGB; transparency on white.

    Raises InputFault `image_load_error`, naming `field`, for a file that cannot be read as one.
    """
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.has_transparency_data:
                shown = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown)
            return np.array(upright.convert("RGB"), dtype=np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as fault:  # what Pillow's readers raise
        raise InputFault("image_load_error", f"{path} cannot be read as a picture: {fault}", field) from fault


def write_png(pixels: Pixels, path: Path) -> None:
    """Write (height, width, 3) uint8 RGB. Raises OSError where that cannot be."""
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, "PNG")
