"""How the pocket family's latents look: fitted to its VAE, so that it stays right when that changes."""

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

FACTOR = 8
PICTURES, SIDE, PATCHES = 32, 64, 4


@torch.no_grad()
def latent_colours(vae: AutoencoderKL, generator: torch.Generator) -> dict[str, Any]:
    """`pipelines.catalogue.LatentColours` as JSON: least squares from scaled latents to averages over 8x8 pixels."""
    shape = PICTURES, 3, PATCHES, PATCHES
    patches = torch.rand(shape, generator=generator) * 2 - 1
    pictures = torch.nn.functional.interpolate(patches, size=SIDE, mode="bilinear")
    scale: float = vae.config["scaling_factor"]
    latents = _samples(vae.encode(pictures).latent_dist.mean * scale)
    averages = _samples((torch.nn.functional.avg_pool2d(pictures, FACTOR) + 1) * 127.5)
    known = torch.cat([latents, torch.ones(len(latents), 1)], dim=1)
    found = torch.linalg.lstsq(known, averages, driver="gelsd").solution.T  # a channel may be a sum of others
    rounded = [[round(value, 2) for value in row] for row in found.tolist()]
    return {"factors": [row[:-1] for row in rounded], "bias": [row[-1] for row in rounded]}


def _samples(planes: Tensor) -> Tensor:
    return planes.permute(0, 2, 3, 1).reshape(-1, planes.shape[1])
