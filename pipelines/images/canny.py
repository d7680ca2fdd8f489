"""PyraCanny: edges of a picture, gathered over nine scales (fooocus-facts 5.4)."""

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.events import Pixels

LEVELS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
LOW, HIGH = 64, 128
KEPT = 0.75  # share of the coarser levels at each finer one


def pyra_canny(pixels: Pixels) -> Pixels:
    """Edge map of `pixels` (height, width, 3) RGB, three equal channels of 0..255 in the same shape. Deterministic.

    Where the 1st and the 99th percentile fall together (a plain picture, or one with very few edges) there is no
    contrast to stretch: what is above them becomes white, the rest black.
    """
    gathered = _edges(pixels, LEVELS[0])
    for level in LEVELS[1:]:
        edges = _edges(pixels, level)
        coarser = cv2.resize(gathered, edges.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        gathered = (KEPT * coarser + (1 - KEPT) * edges).astype(np.float32)
    return np.repeat(_stretched(gathered.sum(axis=2))[:, :, None], 3, axis=2)


def _edges(pixels: Pixels, level: float) -> npt.NDArray[np.float32]:
    """0 or 1 by colour channel, of the picture at a share of its size."""
    height, width = pixels.shape[:2]
    size = (max(int(width * level), 1), max(int(height * level), 1))
    small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    found = [cv2.Canny(np.ascontiguousarray(small[:, :, channel]), LOW, HIGH) > 0 for channel in range(3)]
    return np.stack(found, axis=2).astype(np.float32)


def _stretched(strength: npt.NDArray[np.float32]) -> Pixels:
    low, high = np.percentile(strength, (1, 99))
    if high <= low:
        return np.where(strength > low, 255, 0).astype(np.uint8)
    stretched: npt.NDArray[np.float64] = (strength - low) / (high - low) * 255
    return stretched.clip(0, 255).astype(np.uint8)
