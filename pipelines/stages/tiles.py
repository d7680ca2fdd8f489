"""Pictures in tiles that overlap: where they lie, and what share each has in the whole (fooocus-facts 8.1)."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Band:
    """One tile along one side of a picture.

    start, stop: where it lies, in what tiles are cut from. grow: how many times as long what is made of it is.
    shares: (grow x (stop - start),) float32 of 0 to 1, on the CPU: with what share each place of it counts. At every
    place the shares of all bands of a side sum to 1, so those of tiles, which are products of two, do so too.
    """

    start: int
    stop: int
    grow: int
    shares: Tensor

    @property
    def cut(self) -> slice:
        """Where it lies in what tiles are cut from."""
        return slice(self.start, self.stop)

    @property
    def made(self) -> slice:
        """Where it lies in what is made of the tiles."""
        return slice(self.start * self.grow, self.stop * self.grow)


def bands(length: int, tile: int, overlap: int, grow: int) -> list[Band]:
    """Cut a side of `length` into bands of `tile`, of which neighbours overlap by `overlap` and the last two by more.

    A side that is no longer than a tile is one band. Towards each end a band counts linearly less, over as much as it
    overlaps.
    """
    starts = [*range(0, length - tile, tile - overlap), length - tile] if length > tile else [0]
    spans = [(start, min(start + tile, length)) for start in starts]
    total, ramps = torch.zeros(length * grow, dtype=torch.float64), []
    for start, stop in spans:
        step = torch.arange(1, (stop - start) * grow + 1, dtype=torch.float64) / (overlap * grow)
        ramps.append(step.clamp(max=1) * step.flip(0).clamp(max=1))
        total[start * grow : stop * grow] += ramps[-1]
    return [
        Band(start, stop, grow, (ramp / total[start * grow : stop * grow]).float())
        for (start, stop), ramp in zip(spans, ramps, strict=True)
    ]
