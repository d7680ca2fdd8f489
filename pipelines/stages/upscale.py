"""The stage of enlarging: a picture through the 4x upscaler in tiles, and to its size (fooocus-facts 7)."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

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
class Stretch:
    """Some neighbouring places of a side that is resized. made: the places of the answer that they have a share in.

    matrix: (made, places) float32 on the device: from their levels to that share.
    """

    made: slice
    matrix: Tensor


@dataclass(frozen=True, eq=False)
class Columns:
    """A band of columns that is enlarged. stretch: of all that the upscaler makes of it, by how it is blended."""

    band: Band
    stretch: Stretch


@dataclass(frozen=True, eq=False)
class Rows:
    """A band of rows that is enlarged.

    shares: (4 x the band's length, 1) float32 on the device: how what the upscaler makes of it is blended. ended:
    the stretch of these rows, from the first, that no band below adds to.
    """

    band: Band
    shares: Tensor
    ended: Stretch


@dataclass(frozen=True, eq=False)
class EnlargeTile(Ask[Tensor]):
    """Enlarge (height, width, 3) uint8 pixels. The answer is their share in fourfold rows that are resized across:
    (3, 4 x height, w) float32 of about 0 to 1.

    shares: of each of these rows. across: of the columns.
    """

    network: Upscaler
    pixels: Pixels
    shares: Tensor
    across: Stretch

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
        share: Tensor = ask.shares * (made @ ask.across.matrix.T)
        return share


@dataclass(frozen=True, eq=False)
class EnlargingJob:
    """A picture to enlarge, ready to be: with the network, and its tiles from top to bottom and from left to right."""

    wanted: Enlarging
    network: Upscaler
    rows: Sequence[Rows]
    columns: Sequence[Columns]


def prepare_enlarging(
    wanted: Enlarging, network: Upscaler, device: Device, tile: int = TILE, overlap: int = OVERLAP
) -> EnlargingJob:
    """Upload what is constant in an enlarging. For a worker's thread."""
    height, width = wanted.pixels.shape[:2]
    rows = rows_of(bands(height, tile, overlap, GROW), wanted.height, device)
    return EnlargingJob(wanted, network, rows, columns_of(bands(width, tile, overlap, GROW), wanted.width, device))


def tiles_of(wanted: Enlarging) -> int:
    """In how many tiles a picture is enlarged."""
    height, width = (len(bands(side, TILE, OVERLAP, GROW)) for side in wanted.pixels.shape[:2])
    return height * width


def enlarge(job: EnlargingJob, *, told: bool = False) -> Routine[Tensor]:
    """The picture as (3, height, width) float32 of about 0 to 1, on the device. told: the job's steps are its tiles.

    It is resized across and then down, with 8-bit levels in between, as Pillow does it: what overshoots across at a
    hard edge is cut off before it is resized down, which otherwise comes out up to 61 levels elsewhere.
    """
    wanted, done = job.wanted, 0
    canvas = job.rows[0].shares.new_zeros(3, wanted.height, wanted.width)
    left = canvas[:, :0]  # of the rows that the bands above have begun
    for rows in job.rows:
        wide = pad(left, (0, 0, 0, len(rows.shares) - left.shape[1]))
        for columns in job.columns:
            pixels = wanted.pixels[rows.band.cut, columns.band.cut]
            share = yield from ask(EnlargeTile(job.network, pixels, rows.shares, columns.stretch))
            wide[:, :, columns.stretch.made] += share
            done += 1
            if told:
                yield from ask(Advance(done))
        ended = rows.ended.matrix.shape[1]
        levels = (wide[:, :ended] * 255).round_().clamp_(0, 255)
        canvas[:, rows.ended.made] += rows.ended.matrix @ (levels / 255)
        left = wide[:, ended:]
    return canvas


def to_pixels(enlarged: Tensor) -> Tensor:
    """(height, width, 3) uint8 of what `enlarge` gives."""
    return (enlarged * 255).round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0)


def columns_of(cut: Sequence[Band], wanted: int, device: Device) -> list[Columns]:
    """The bands of a side that becomes fourfold, then `wanted` long by Lanczos."""
    length = GROW * cut[-1].stop
    return [Columns(band, _stretch(band.made, length, wanted, device, band.shares)) for band in cut]


def rows_of(cut: Sequence[Band], wanted: int, device: Device) -> list[Rows]:
    """As `columns_of`."""
    length = GROW * cut[-1].stop
    ends = [*(band.made.start for band in cut[1:]), length]
    return [
        Rows(
            band,
            device.upload(band.shares[:, None]),
            _stretch(slice(band.made.start, end), length, wanted, device),
        )
        for band, end in zip(cut, ends, strict=True)
    ]


def _stretch(given: slice, length: int, wanted: int, device: Device, shares: Tensor | None = None) -> Stretch:
    """Of the places `given` of `length`. shares: of each; None for all of it."""
    places, weights = lanczos(length, wanted)
    inside = (places >= given.start) & (places < given.stop) & (weights != 0)
    touched = inside.any(dim=1).nonzero()
    first, last = int(touched[0]), int(touched[-1]) + 1
    within = (places - given.start).clamp(0, given.stop - given.start - 1)[first:last]
    matrix = torch.zeros(last - first, given.stop - given.start, dtype=torch.float64)
    matrix.scatter_add_(1, within, (weights * inside)[first:last])
    if shares is not None:
        matrix = matrix * shares
    return Stretch(slice(first, last), device.upload(matrix.float()))


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
