"""What a running job tells its caller: steps, and at the end the pictures."""

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


@dataclass(frozen=True, slots=True)
class Drawn:
    """The last event of a job. images: (n, height, width, 3) uint8 RGB. timings: seconds by stage."""

    images: Pixels
    timings: Mapping[str, float]


Event = Progress | Drawn
