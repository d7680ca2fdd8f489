"""The stage of filling: a hole takes ever finer blurs of what is around it (fooocus-facts 6.5)."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipelines.device import Device
from pipelines.engine.tasks import Answers, Ask, Routine, Stage, ask
from pipelines.images.masks import HOLE, Mask

BLURS = ((512, 2), (256, 2), (128, 4), (64, 4), (33, 8), (15, 8), (5, 16), (3, 16))  # radius, repeats
ONE = 24  # bits of the number that shares of a blur are counted in, as Pillow counts them


@dataclass(frozen=True, eq=False)
class BlurHole(Ask[Tensor]):
    """Blur the hole of a picture several times, while all around it stays as it is. The answer is of the same kind.

    pixels: (3, height, width) int32 of 0 to 255, on the device. place: its rows and columns that hold all of the hole.
    hole: of these, bool, on the device too.
    """

    pixels: Tensor
    place: tuple[slice, slice]
    hole: Tensor
    radius: int
    repeats: int

    @property
    def key(self) -> Hashable:
        return tuple(self.pixels.shape)


class FillStage(Stage[BlurHole, Tensor]):
    """One picture a call."""

    name = "fill"
    asked = BlurHole

    def run(self, asks: Sequence[BlurHole]) -> Answers[Tensor]:
        return Answers([self._blurred(ask) for ask in asks])

    def _blurred(self, ask: BlurHole) -> Tensor:
        pixels = ask.pixels.clone()
        around = pixels[:, *ask.place]
        for _ in range(ask.repeats):
            around.copy_(torch.where(ask.hole, box_blurred(pixels, ask.radius, *ask.place), around))
        return pixels


def fill(pixels: Tensor, mask: Mask, device: Device) -> Routine[Tensor]:
    """Ask for what the noise begins from, (height, width, 3) uint8 on the device: `pixels`, which is that too, byte for
    byte outside the hole. mask: (height, width) of it."""
    hole = mask > HOLE
    if not hole.any():
        return pixels
    rows, columns = (np.flatnonzero(hole.any(axis=axis)) for axis in (1, 0))
    place = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    marked = device.upload(torch.tensor(hole[place]))
    filled = pixels.permute(2, 0, 1).to(torch.int32)
    for radius, repeats in BLURS:  # an ask each: others' steps run in between
        filled = yield from ask(BlurHole(filled, place, marked, radius, repeats))
    return filled.permute(1, 2, 0).to(torch.uint8)


def box_blurred(pixels: Tensor, radius: int, rows: slice, columns: slice) -> Tensor:
    """What a box blur makes of `rows` and `columns` of (3, height, width) int32: to the bit what Pillow's does, which
    repeats the border, takes the means of rows first, then of columns, and rounds to 8 bits after each."""
    seen = slice(max(rows.start - radius - 1, 0), min(rows.stop + radius + 1, pixels.shape[1]))
    wide = _means(pixels[:, seen], radius, columns)
    return _means(wide.mT, radius, slice(rows.start - seen.start, rows.stop - seen.start)).mT


def _means(pixels: Tensor, radius: int, kept: slice) -> Tensor:
    """Of the columns within `radius` of those in `kept`."""
    first, last = kept.start - radius - 1, kept.stop + radius + 1
    inner = pixels[..., max(first, 0) : last]
    before = inner[..., :1].expand(-1, -1, max(-first, 0))
    after = inner[..., -1:].expand(-1, -1, max(last - pixels.shape[-1], 0))
    given = torch.cat([before, inner, after], dim=-1)
    window, count = 2 * radius + 1, kept.stop - kept.start
    sums = given.cumsum(-1, dtype=torch.int32)
    inside = sums[..., window : window + count] - sums[..., :count]
    beside = given[..., :count] + given[..., window + 1 :]
    share = (1 << ONE) // window
    rest = ((1 << ONE) - window * share) // 2  # what rounding leaves of the share goes to the pixels beside the window
    return (inside * share + beside * rest + (1 << ONE - 1)) >> ONE & 255  # of 32 bits, of which none is a sign
