"""The stages of the VAE: pictures to latents and back (fooocus-facts 8.1)."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from pipelines.device import Device, Download
from pipelines.engine.tasks import Answers, Ask, Stage
from pipelines.errors import DrawingFault
from pipelines.events import Pixels

FACTOR = 8  # pixels of a picture to one of its latent
LATENT_CHANNELS = 4


@dataclass(frozen=True, eq=False)
class EncodeImage(Ask[Tensor]):
    """Encode (height, width, 3) uint8 pixels. The answer is a scaled latent (channels, h, w), sampled with `seed`."""

    pixels: Pixels
    seed: int

    @property
    def key(self) -> Hashable:
        return self.pixels.shape


@dataclass(frozen=True, eq=False)
class DecodeLatent(Ask[Download]):
    """Decode a scaled latent (channels, h, w). The answer gives (height, width, 3) uint8 pixels."""

    latent: Tensor

    @property
    def key(self) -> Hashable:
        return tuple(self.latent.shape)


class EncodeStage(Stage[EncodeImage, Tensor]):
    """One picture a call: large ones fill the device alone, and others' steps run in between."""

    name = "encode"
    asked = EncodeImage

    def __init__(self, vae: AutoencoderKL, device: Device) -> None:
        self._vae, self._device = vae, device

    def run(self, asks: Sequence[EncodeImage]) -> Answers[Tensor]:
        return Answers([self._encode(ask) for ask in asks])

    def _encode(self, ask: EncodeImage) -> Tensor:
        pixels = self._device.upload(torch.tensor(ask.pixels)).permute(2, 0, 1)[None].float() / 127.5 - 1
        posterior = self._vae.encode(pixels.to(self._vae.dtype)).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(ask.seed))
        scale: float = self._vae.config["scaling_factor"]
        latent: Tensor = (posterior.mean.float() + posterior.std.float() * self._device.upload(noise))[0]
        return latent * scale


class DecodeStage(Stage[DecodeLatent, Download]):
    """One latent a call, as in `EncodeStage`.

    What it gives raises DrawingFault, wherever it is asked for its pixels, when the picture is not finite: a VAE that
    overflows in its dtype does so again, so nothing is begun again for it, and nobody is given a black picture.
    """

    name = "decode"
    asked = DecodeLatent

    def __init__(self, vae: AutoencoderKL, device: Device) -> None:
        self._vae, self._device = vae, device

    def run(self, asks: Sequence[DecodeLatent]) -> Answers[Download]:
        return Answers([self._decode(ask) for ask in asks])

    def _decode(self, ask: DecodeLatent) -> Download:
        latent = (ask.latent / self._vae.config["scaling_factor"])[None].to(self._vae.dtype)
        decoded = self._vae.decode(latent, return_dict=False)[0][0].float()
        pixels = ((decoded + 1) / 2).clamp(0, 1) * 255
        picture = self._device.download(pixels.permute(1, 2, 0).to(torch.uint8))
        largest = self._device.download(torch.linalg.vector_norm(decoded, torch.inf))
        return partial(_finite, picture, largest)


def _finite(picture: Download, largest: Download) -> Tensor:
    if not math.isfinite(largest().item()):
        raise DrawingFault("the VAE decoded the picture to values that are not finite: it overflows in its dtype")
    return picture()
