"""Outlines instead of filled shapes: the style that the pocket model's style LoRA teaches, and how much of it shows."""

import cv2
import numpy as np

from benchmarks.pocket.world.drawing import Pixels
from benchmarks.pocket.world.oracle import mask, standing_out

WIDTH = 0.05  # of a line, as a share of the picture's shorter side
SPECK = 0.2  # share of the largest part below which another is none


def outlined(picture: Pixels) -> Pixels:
    """The (height, width, 3) scene with its things hollowed out, so that only a line along their edges is left."""
    height, width = picture.shape[:2]
    line = max(1, round(WIDTH * min(height, width)))
    there = mask(picture).astype(np.uint8)
    inner = cv2.erode(there, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * line + 1, 2 * line + 1)))
    hollow = picture.copy()
    hollow[inner > 0] = picture[0, 0]  # corners are background
    return hollow


def filled(picture: Pixels) -> float:
    """Share of the hull around what stands out that does: near 1 for one solid thing, about a half for a line.

    The hull, and not what an outer edge encloses, for a line that has a gap encloses nothing.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats(standing_out(picture).astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if not areas.size:
        return 0.0
    large = 1 + np.flatnonzero(areas > SPECK * areas.max())
    there = np.isin(labels, large).astype(np.uint8)
    hull = cv2.convexHull(cv2.findNonZero(there))
    enclosed = cv2.fillConvexPoly(np.zeros_like(there), hull, 1)
    return float(there.sum() / enclosed.sum())
