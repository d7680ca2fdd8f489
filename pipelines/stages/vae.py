"""The stages of the VAE: pictures to latents and back, large ones in tiles (fooocus-facts 8.1)."""

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from pipelines.device import Device, Download
from pipelines.engine.tasks import Answers, Ask, Routine, Stage, ask
from pipelines.errors import DrawingFault
from pipelines.events import Pixels
from pipelines.memory.residency import RESIDENT, Residency
from pipelines.stages.tiles import Band, bands

FACTOR = 8  # pixels of a picture to one of its latent
LATENT_CHANNELS = 4
TILED_ABOVE = 2048 * 2048  # pixels of a picture: what can be asked for by its size is not tiled
TILES = (64, 64), (128, 32), (32, 128)  # (height, width) in the latent, of three passes whose mean is taken
ENCODED_OVERLAP, DECODED_OVERLAP = 8, 16  # in the latent

Picture = Pixels | Tensor
"""(height, width, 3) of 0 to 255: uint8 in the host's memory, or that or float32 on the device."""


@dataclass(frozen=True, eq=False)
class EncodeImage(Ask[Tensor]):
    """Encode a picture. The answer is a scaled latent (channels, h, w), sampled with `seed`.

    vae: here and below, of other latents than the family's; None for its own.
    """

    pixels: Picture
    seed: int
    vae: AutoencoderKL | None = None

    @property
    def key(self) -> Hashable:
        return id(self.vae), tuple(self.pixels.shape)


@dataclass(frozen=True, eq=False)
class DecodeLatent(Ask[Download]):
    """Decode a scaled latent (channels, h, w). The answer gives (height, width, 3) uint8 pixels."""

    latent: Tensor
    vae: AutoencoderKL | None = None

    @property
    def key(self) -> Hashable:
        return id(self.vae), tuple(self.latent.shape)


class EncodeStage(Stage[EncodeImage, Tensor]):
    """One picture a call: large ones fill the device alone, and others' steps run in between."""

    name = "encode"
    asked = EncodeImage

    def __init__(self, vae: AutoencoderKL, device: Device, residency: Residency = RESIDENT) -> None:
        self._vae, self._device, self._residency = vae, device, residency

    def run(self, asks: Sequence[EncodeImage]) -> Answers[Tensor]:
        return Answers([self._encode(ask) for ask in asks])

    def _encode(self, ask: EncodeImage) -> Tensor:
        vae = ask.vae or self._vae
        self._residency.bring(vae)
        mean, std = _moments(vae, ask.pixels, self._device)
        scale: float = vae.config["scaling_factor"]
        latent: Tensor = (mean + std * self._device.upload(_noise(tuple(mean.shape), ask.seed)))[0]
        return latent * scale


class DecodeStage(Stage[DecodeLatent, Download]):
    """One latent a call, as in `EncodeStage`.

    What it gives raises DrawingFault, wherever it is asked for its pixels, when the picture is not finite: a VAE that
    overflows in its dtype does so again, so nothing is begun again for it, and nobody is given a black picture.
    """

    name = "decode"
    asked = DecodeLatent

    def __init__(self, vae: AutoencoderKL, device: Device, residency: Residency = RESIDENT) -> None:
        self._vae, self._device, self._residency = vae, device, residency

    def run(self, asks: Sequence[DecodeLatent]) -> Answers[Download]:
        vae = asks[0].vae or self._vae
        self._residency.bring(vae)
        return Answers([_shown(_decoded(vae, ask.latent), self._device) for ask in asks])


@dataclass(frozen=True, eq=False)
class EncodeTile(Ask[Tensor]):
    """Encode a tile of a picture. The answer: mean and deviation of its scaled latent, (2, channels, h, w) float32."""

    pixels: Picture
    vae: AutoencoderKL | None = None

    @property
    def key(self) -> Hashable:
        return id(self.vae), tuple(self.pixels.shape)

    @property
    def cost(self) -> float:
        return float(self.pixels.shape[0] * self.pixels.shape[1]) / FACTOR**2


@dataclass(frozen=True, eq=False)
class DecodeTile(Ask[Tensor]):
    """Decode a tile of a scaled latent (channels, h, w). The answer is (3, height, width) float32, of about -1 to 1."""

    latent: Tensor
    vae: AutoencoderKL | None = None

    @property
    def key(self) -> Hashable:
        return id(self.vae), tuple(self.latent.shape)

    @property
    def cost(self) -> float:
        return float(self.latent.shape[-2] * self.latent.shape[-1])


class EncodeTileStage(Stage[EncodeTile, Tensor]):
    """One tile a call."""

    name = "encode"
    asked = EncodeTile

    def __init__(self, vae: AutoencoderKL, device: Device, residency: Residency = RESIDENT) -> None:
        self._vae, self._device, self._residency = vae, device, residency

    def run(self, asks: Sequence[EncodeTile]) -> Answers[Tensor]:
        vae = asks[0].vae or self._vae
        scale: float = vae.config["scaling_factor"]
        self._residency.bring(vae)
        return Answers([torch.cat(_moments(vae, ask.pixels, self._device)) * scale for ask in asks])


class DecodeTileStage(Stage[DecodeTile, Tensor]):
    """One tile a call."""

    name = "decode"
    asked = DecodeTile

    def __init__(self, vae: AutoencoderKL, residency: Residency = RESIDENT) -> None:
        self._vae, self._residency = vae, residency

    def run(self, asks: Sequence[DecodeTile]) -> Answers[Tensor]:
        vae = asks[0].vae or self._vae
        self._residency.bring(vae)
        return Answers([_decoded(vae, ask.latent) for ask in asks])


def encode(picture: Picture, seed: int, device: Device, vae: AutoencoderKL | None = None) -> Routine[Tensor]:
    """Ask for the scaled latent (channels, h, w), sampled with `seed`, of a picture whose sides are multiples of 8.

    One of more than 2048 x 2048 pixels is encoded in tiles. Its size alone decides that, so that a picture is one
    picture whatever the device holds.
    """
    height, width = (side // FACTOR for side in picture.shape[:2])
    if not _is_large(height, width):
        return (yield from ask(EncodeImage(picture, seed, vae)))
    moments = torch.zeros(2, LATENT_CHANNELS, height, width, device=device.device)
    for row, column, share in _tiles(height, width, ENCODED_OVERLAP, 1, device):
        made = yield from ask(EncodeTile(picture[_of_pixels(row), _of_pixels(column)], vae))
        moments[:, :, row.made, column.made] += share * made
    mean, std = moments[0], moments[1]
    latent: Tensor = mean + std * device.upload(_noise((1, *mean.shape), seed)[0])
    return latent


def decode(latent: Tensor, device: Device, vae: AutoencoderKL | None = None) -> Routine[Download]:
    """Ask for the picture of a scaled latent (channels, h, w), as `DecodeStage` gives it; large ones as in `encode`."""
    height, width = latent.shape[-2:]
    if not _is_large(height, width):
        return (yield from ask(DecodeLatent(latent, vae)))
    decoded = torch.zeros(3, FACTOR * height, FACTOR * width, device=device.device)
    for row, column, share in _tiles(height, width, DECODED_OVERLAP, FACTOR, device):
        made = yield from ask(DecodeTile(latent[:, row.cut, column.cut], vae))
        decoded[:, row.made, column.made] += share * made
    return _shown(decoded, device)


def _is_large(height: int, width: int) -> bool:
    return height * width * FACTOR**2 > TILED_ABOVE


def _tiles(height: int, width: int, overlap: int, grow: int, device: Device) -> Iterator[tuple[Band, Band, Tensor]]:
    """The tiles of all passes, each with the share of its places in the mean."""
    for tile_height, tile_width in TILES:
        columns = [(band, device.upload(band.shares)) for band in bands(width, tile_width, overlap, grow)]
        for row in bands(height, tile_height, overlap, grow):
            down = device.upload(row.shares)[:, None] / len(TILES)
            for column, across in columns:
                yield row, column, down * across


def _of_pixels(band: Band) -> slice:
    return slice(FACTOR * band.start, FACTOR * band.stop)


def _moments(vae: AutoencoderKL, picture: Picture, device: Device) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the latent of a picture, (1, channels, h, w) float32 each."""
    there = picture if isinstance(picture, Tensor) else device.upload(torch.tensor(picture))
    pixels = there.permute(2, 0, 1)[None].float() / 127.5 - 1
    posterior = vae.encode(pixels.to(vae.dtype)).latent_dist
    return posterior.mean.float(), posterior.std.float()


def _noise(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _decoded(vae: AutoencoderKL, latent: Tensor) -> Tensor:
    """(3, height, width) float32, of about -1 to 1."""
    scaled = (latent / vae.config["scaling_factor"])[None].to(vae.dtype)
    decoded: Tensor = vae.decode(scaled, return_dict=False)[0][0].float()
    return decoded


def _shown(decoded: Tensor, device: Device) -> Download:
    pixels = ((decoded + 1) / 2).clamp(0, 1) * 255
    picture = device.download(pixels.permute(1, 2, 0).to(torch.uint8))
    largest = device.download(torch.linalg.vector_norm(decoded, torch.inf))
    return partial(finite, picture, largest, "the VAE decoded the picture to values that are not finite")


def finite(picture: Download, largest: Download, otherwise: str) -> Tensor:
    """What was downloaded, held to be finite by its largest magnitude; otherwise it raises DrawingFault."""
    if not math.isfinite(largest().item()):
        raise DrawingFault(f"{otherwise}: it overflows in its dtype")
    return picture()
