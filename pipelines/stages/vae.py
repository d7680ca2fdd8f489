"""The stages of the VAE: pictures to latents and back (fooocus-facts 8.1)."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from pipelines.events import Pixels

FACTOR = 8


@dataclass(frozen=True, eq=False)
class EncodeImage:
    """Encode (height, width, 3) uint8 pixels. The answer is a scaled latent (channels, h, w), sampled with `seed`."""

    pixels: Pixels
    seed: int

    @property
    def key(self) -> Hashable:
        return self.pixels.shape

    @property
    def rows(self) -> int:
        return 1

    @property
    def cost(self) -> float:
        return 0.0


@dataclass(frozen=True, eq=False)
class DecodeLatent:
    """Decode a scaled latent (channels, h, w). The answer is (height, width, 3) uint8 pixels."""

    latent: Tensor

    @property
    def key(self) -> Hashable:
        return tuple(self.latent.shape)

    @property
    def rows(self) -> int:
        return 1

    @property
    def cost(self) -> float:
        return 0.0


class EncodeStage:
    """One picture a call: large ones fill the device alone, and others' steps run in between."""

    name = "encode"

    def __init__(self, vae: AutoencoderKL) -> None:
        self._vae = vae

    def cap(self, ask: Any) -> int:
        return 1

    def run(self, asks: Sequence[EncodeImage]) -> list[Tensor]:
        return [self._encode(ask) for ask in asks]

    def _encode(self, ask: EncodeImage) -> Tensor:
        pixels = torch.tensor(ask.pixels, device=self._vae.device).permute(2, 0, 1)[None].float() / 127.5 - 1
        posterior = self._vae.encode(pixels.to(self._vae.dtype)).latent_dist
        generator = torch.Generator().manual_seed(ask.seed)
        noise = torch.randn(posterior.mean.shape, generator=generator).to(posterior.mean.device)
        scale: float = self._vae.config["scaling_factor"]
        latent: Tensor = (posterior.mean.float() + posterior.std.float() * noise)[0]
        return latent * scale


class DecodeStage:
    """One latent a call, as in `EncodeStage`."""

    name = "decode"

    def __init__(self, vae: AutoencoderKL) -> None:
        self._vae = vae

    def cap(self, ask: Any) -> int:
        return 1

    def run(self, asks: Sequence[DecodeLatent]) -> list[Pixels]:
        return [self._decode(ask) for ask in asks]

    def _decode(self, ask: DecodeLatent) -> Pixels:
        latent = (ask.latent / self._vae.config["scaling_factor"])[None].to(self._vae.dtype)
        decoded = self._vae.decode(latent, return_dict=False)[0][0].float()
        pixels = ((decoded + 1) / 2).clamp(0, 1) * 255
        array: Pixels = pixels.permute(1, 2, 0).cpu().numpy().astype(np.uint8)
        return array
