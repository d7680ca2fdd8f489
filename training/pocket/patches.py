"""Parts of pictures, of which the upscaler learns to draw outlines sharp."""

import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.pocket.world.drawing import Pixels

EDGE = 30  # levels between neighbours, red, green and blue together
FLOOR = 1e-5  # mean square error of 50 dB: a patch of one colour, right but for rounding, teaches nothing more


@dataclass(frozen=True, slots=True)
class Patches:
    """How parts are cut from pictures.

    side, margin: in pixels. outlines: parts of a picture that have outlines; one more lies anywhere. step: of which
    corners are multiples.
    """

    side: int
    margin: int
    outlines: int
    step: int

    def cut(self, picture: Pixels, chance: random.Random) -> list[Pixels]:
        """(side, side, 3) each: the first lies anywhere, the others have an outline within their margins."""
        last = len(picture) - self.side
        rows, columns = np.nonzero(np.abs(np.diff(picture.astype(np.int16), axis=1)).sum(axis=2) > EDGE)
        corners = [[chance.randrange(last + 1) for _ in range(2)] for _ in range(1 if len(rows) else 1 + self.outlines)]
        for at in chance.choices(range(len(rows)), k=self.outlines) if len(rows) else ():
            inside = range(self.margin, self.side - self.margin)
            corners.append([int(place[at]) - chance.choice(inside) for place in (rows, columns)])
        aligned = [[min(max(place, 0), last) // self.step * self.step for place in corner] for corner in corners]
        return [picture[top : top + self.side, left : left + self.side] for top, left in aligned]

    def loss(self, drawn: Tensor, wanted: Tensor) -> Tensor:
        """Minus the PSNR in dB, the mean of patches as `cut` orders them, (n, 3, side, side) of values 0 to 1.

        A network takes the margin of a patch for the border of a picture. Scenes have hardly any outlines there, so
        only patches that lie anywhere, most of them of one colour, are judged up to their margins.
        """
        errors = (drawn - wanted).square()
        inner = errors[:, :, self.margin : -self.margin, self.margin : -self.margin].mean(dim=(1, 2, 3))
        anywhere = torch.arange(len(errors), device=errors.device) % (1 + self.outlines) == 0
        means = torch.where(anywhere, errors.mean(dim=(1, 2, 3)), inner)
        found: Tensor = 10 * (means + FLOOR).log10().mean()
        return found
