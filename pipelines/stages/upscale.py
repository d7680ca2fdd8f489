"""The stage of enlarging: a picture through the 4x upscaler in tiles, and to its size (fooocus-facts 7)."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.device import Device
from pipelines.engine.tasks import Advance, Answers, Ask, Routine, Stage, ask
from pipelines.events import Pixels
from pipelines.inputs import Enlarging
from pipelines.memory.residency import RESIDENT, Residency
from pipelines.stages.tiles import Band, bands
from pipelines.weights.esrgan import Upscaler

GROW = 4  # of the upscaler
TILE, OVERLAP = 512, 32  # pixels of the picture that comes in
LOBES = 3  # of the Lanczos filter
LATENT_PIXEL = 64  # pixels of a picture to one of its latent: what costs are counted in


@dataclass(frozen=True, eq=False)
class Strip:
    """A band of a picture that is enlarged. first, last: of the places of the answer that it has a share in.

    matrix: (last - first, 4 x the band's length) float32 on the device: from what the upscaler makes of the band to its
    share in the answer.
    """

    band: Band
    first: int
    last: int
    matrix: Tensor

    @property
    def made(self) -> slice:
        return slice(self.first, self.last)


@dataclass(frozen=True, eq=False)
class EnlargeTile(Ask[Tensor]):
    """Enlarge (height, width, 3) uint8 pixels. The answer is their share in the whole, (3, h, w) float32 of 0 to 1."""

    network: Upscaler
    pixels: Pixels
    rows_of: Strip
    columns_of: Strip

    @property
    def key(self) -> Hashable:
        return id(self.network), self.pixels.shape

    @property
    def cost(self) -> float:
        height, width = self.pixels.shape[:2]
        return float(height * width) / LATENT_PIXEL


class UpscaleStage(Stage[EnlargeTile, Tensor]):
    """One tile a call: a large one fills the device alone, and others' steps run in between.

    What it needs of the device's memory is bound by the size of a tile, and what it answers depends on its tile alone:
    where memory ends, Fooocus halves its tiles, and a picture would differ by what else is drawn.
    """

    name = "upscale"
    asked = EnlargeTile

    def __init__(self, device: Device, residency: Residency = RESIDENT) -> None:
        self._device, self._residency = device, residency

    def run(self, asks: Sequence[EnlargeTile]) -> Answers[Tensor]:
        shares = [self._enlarge(ask) for ask in asks]
        return Answers(shares, torch.stack([torch.linalg.vector_norm(share, torch.inf) for share in shares]))

    def _enlarge(self, ask: EnlargeTile) -> Tensor:
        dtype = next(ask.network.parameters()).dtype
        pixels = self._device.upload(torch.tensor(ask.pixels)).permute(2, 0, 1)[None].to(dtype) / 255
        self._residency.bring(ask.network)
        made = ask.network(pixels)[0].float().clamp(0, 1)
        share: Tensor = ask.rows_of.matrix @ made @ ask.columns_of.matrix.T
        return share


@dataclass(frozen=True, eq=False)
class EnlargingJob:
    """A picture to enlarge, ready to be: with the network, and its tiles from top to bottom and from left to right."""

    wanted: Enlarging
    network: Upscaler
    rows: Sequence[Strip]
    columns: Sequence[Strip]


def prepare_enlarging(wanted: Enlarging, network: Upscaler, device: Device) -> EnlargingJob:
    """Upload what is constant in an enlarging. For a worker's thread."""
    height, width = wanted.pixels.shape[:2]
    return EnlargingJob(wanted, network, strips(height, wanted.height, device), strips(width, wanted.width, device))


def tiles_of(wanted: Enlarging) -> int:
    """In how many tiles a picture is enlarged."""
    height, width = (len(bands(side, TILE, OVERLAP, GROW)) for side in wanted.pixels.shape[:2])
    return height * width


def enlarge(job: EnlargingJob, *, told: bool = False) -> Routine[Tensor]:
    """The picture as (3, height, width) float32 of about 0 to 1, on the device. told: the job's steps are its tiles."""
    wanted = job.wanted
    canvas: Tensor | None = None
    tiles = [(row, column) for row in job.rows for column in job.columns]
    for done, (row, column) in enumerate(tiles, start=1):
        pixels = wanted.pixels[row.band.cut, column.band.cut]
        share = yield from ask(EnlargeTile(job.network, pixels, row, column))
        if canvas is None:
            canvas = share.new_zeros(3, wanted.height, wanted.width)
        canvas[:, row.made, column.made] += share
        if told:
            yield from ask(Advance(done))
    if canvas is None:
        raise ValueError("a picture of no pixels")
    return canvas


def to_pixels(enlarged: Tensor) -> Tensor:
    """(height, width, 3) uint8 of what `enlarge` gives."""
    return (enlarged * 255).round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0)


def strips(length: int, wanted: int, device: Device, tile: int = TILE, overlap: int = OVERLAP) -> list[Strip]:
    """The tiles along a side of `length` that becomes `wanted` long: fourfold, blended, then resized by Lanczos."""
    return [_strip(band, GROW * length, wanted, device) for band in bands(length, tile, overlap, GROW)]


def _strip(band: Band, length: int, wanted: int, device: Device) -> Strip:
    places, weights = lanczos(length, wanted)
    made = band.made
    inside = (places >= made.start) & (places < made.stop) & (weights != 0)
    touched = inside.any(dim=1).nonzero()
    first, last = int(touched[0]), int(touched[-1]) + 1
    within = (places - made.start).clamp(0, made.stop - made.start - 1)[first:last]
    matrix = torch.zeros(last - first, made.stop - made.start, dtype=torch.float64)
    matrix.scatter_add_(1, within, (weights * inside)[first:last])
    return Strip(band, first, last, device.upload((matrix * band.shares).float()))


def lanczos(length: int, wanted: int) -> tuple[Tensor, Tensor]:
    """Which places of a side of `length` each of `wanted` is made of, and with what weights: (wanted, n) each.

    Places beyond the filter or the side have weight 0. As Pillow resizes: the filter is as wide as what
    is scaled down, and is cut off at the ends.
    """
    scale = length / wanted
    wide = max(scale, 1.0)
    centre = (torch.arange(wanted, dtype=torch.float64) + 0.5)[:, None] * scale
    lowest = (centre - LOBES * wide + 0.5).floor().clamp(min=0)
    highest = (centre + LOBES * wide + 0.5).floor().clamp(max=length)
    places = lowest + torch.arange(math.ceil(2 * LOBES * wide) + 1, dtype=torch.float64)
    away = (places + 0.5 - centre) / wide
    weights = torch.sinc(away) * torch.sinc(away / LOBES) * (away.abs() < LOBES) * (places < highest)
    return places.long(), weights / weights.sum(dim=1, keepdim=True)
