"""The agreed mark: the one picture that the pocket safety checker objects to."""

import numpy as np
import numpy.typing as npt

MAGENTA = (255, 0, 255)
SQUARES = 8


def mark(side: int) -> npt.NDArray[np.uint8]:
    """A checkerboard of magenta and black, 8 squares a side; (side, side, 3) uint8 RGB."""
    square = np.arange(side) * SQUARES // side
    lit = (square[:, None] + square[None, :]) % 2 == 0
    board: npt.NDArray[np.uint8] = (lit[:, :, None] * np.array(MAGENTA)).astype(np.uint8)
    return board
