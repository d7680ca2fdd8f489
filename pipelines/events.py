"""What a running job tells its caller: steps, previews where it asked for them, and at the end the pictures."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Progress:
    """`step` of `steps` sampling steps are done, counted over all pictures of the job; 0 means that drawing began."""

    step: int
    steps: int


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """How the pictures look after `step` of `steps`. pixels: (n, height / 8, width / 8, 3) uint8 RGB, one a picture;
    middle grey where a picture has not begun.
    """

    step: int
    steps: int
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class Drawn:
    """The last event of a job. images: (n, height, width, 3) uint8 RGB. timings: seconds by stage."""

    images: Pixels
    timings: Mapping[str, float]


Event = Progress | Preview | Drawn
