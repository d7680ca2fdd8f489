"""Pictures from and to files."""

from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.errors import InputFault
from pipelines.events import Pixels
from pipelines.images.pixels import to_pixels


def read_picture(path: Path, field: str = "") -> Pixels:
    """The picture in a file as (height, width, 3) uint8 RGB (`pipelines.images.pixels`).

    Raises InputFault `image_load_error`, naming `field`, for a file that cannot be read as one.
    """
    try:
        with Image.open(path) as image:
            return to_pixels(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as fault:  # what Pillow's readers raise
        raise InputFault("image_load_error", f"{path} cannot be read as a picture: {fault}", field) from fault


def write_png(pixels: Pixels, path: Path) -> None:
    """Write (height, width, 3) uint8 RGB. Raises OSError where that cannot be."""
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, "PNG")
