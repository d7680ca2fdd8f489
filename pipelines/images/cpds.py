"""CPDS: the structure of a picture as contrast-preserving shades of gray (fooocus-facts 5.5)."""

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.events import Pixels

BLUR = 0.8  # deviation in pixels
STRETCHED = (4, 96)  # percentiles that become black and white


def cpds(pixels: Pixels) -> Pixels:
    """Structure of `pixels` (height, width, 3) RGB, three equal channels of 0..255 in the same shape. Deterministic.

    Decolourises (Lu et al. 2012) and adds by how much that leaves colour behind. A plain picture becomes black.
    """
    blurred = np.asarray(cv2.GaussianBlur(pixels, (0, 0), BLUR), np.uint8)
    gray, boosted = cv2.decolor(blurred)
    lost = np.linalg.norm(blurred.astype(np.float32) - np.asarray(boosted, np.float32), axis=2)
    return np.repeat(_stretched(np.asarray(gray, np.float32) + lost)[:, :, None], 3, axis=2)


def _stretched(shade: npt.NDArray[np.float32]) -> Pixels:
    low, high = np.percentile(shade, STRETCHED)
    if high <= low:
        return np.where(shade > low, 255, 0).astype(np.uint8)
    stretched: npt.NDArray[np.float64] = (shade - low) / (high - low) * 255
    return stretched.clip(0, 255).astype(np.uint8)
