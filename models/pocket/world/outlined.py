"""Outlines instead of filled shapes: the style that the pocket model's style LoRA teaches, and how much of it shows."""

import cv2
import numpy as np

from models.pocket.world.drawing import Pixels
from models.pocket.world.oracle import mask

WIDTH = 0.05  # of a line, as a share of the picture's shorter side


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
    """Share of what the outer edges of things enclose that is as they are: 1 for what is solid, near 0 for a line.

    A soft edge runs where the colour is half way from the background to the thing, as the oracle sees it.
    """
    away = np.linalg.norm(picture.astype(np.float32) - picture[0, 0], axis=2)
    things = mask(picture)
    if not things.any():
        return 0.0
    there = (away > 0.5 * np.quantile(away[things], 0.9)).astype(np.uint8)
    edges, _ = cv2.findContours(there, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    enclosed = cv2.drawContours(np.zeros_like(there), edges, -1, 1, cv2.FILLED)
    return float(there.sum() / max(1, enclosed.sum()))
