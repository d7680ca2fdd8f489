"""Pictures that may not be shown become black."""

from collections.abc import Sequence

import numpy as np

from pipelines.events import Pixels


def black_out(images: Pixels, flags: Sequence[bool]) -> Pixels:
    """`images` (n, height, width, 3) with the flagged ones all black; a new array where any is."""
    if len(flags) != len(images):
        raise ValueError(f"{len(images)} images but {len(flags)} flags")
    if not any(flags):
        return images
    shown = images.copy()
    shown[np.asarray(flags, dtype=np.bool_)] = 0
    return shown
