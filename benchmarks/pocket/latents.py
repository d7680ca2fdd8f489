"""Latents of drawn pictures and pictures of latents, without the VAE: both are averages over 8 x 8 pixels."""

from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.pocket.world.drawing import Pixels
from models.pocket import shapes
from models.pocket.vae_weights import AMPLITUDE
from pipelines.denoising.schedules import sdxl_table

FACTOR = 8
Level = TypeVar("Level", float, Tensor)
SCALE = AMPLITUDE * float(shapes.VAE["scaling_factor"])  # of a latent that the UNet sees, per unit of an average


def latents_of(pixels: Pixels) -> Tensor:
    """(4, h / 8, w / 8): averages of red, green, blue and of all three, as the constructed VAE encodes them."""
    height, width, colours = pixels.shape
    rows = pixels.reshape(height // FACTOR, FACTOR, -1).sum(axis=1, dtype=np.uint16)  # in numbers that just suffice:
    sums = rows.reshape(height // FACTOR, width // FACTOR, FACTOR, colours).sum(axis=2, dtype=np.uint16)  # much faster
    means = torch.from_numpy(sums.astype(np.float32)).permute(2, 0, 1) / (FACTOR**2 * 127.5) - 1
    return torch.cat([means, means.mean(dim=0, keepdim=True)]) * SCALE


def all_latents(pictures: Iterable[Pixels]) -> Tensor:
    """(n, 4, h / 8, w / 8) of pictures of one size."""
    return torch.stack([latents_of(picture) for picture in pictures])


def pixels_of(latents: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(n, h, w, 3): a smooth enlargement of (n, 4, h / 8, w / 8) latents."""
    pictures = (latents[:, :3] / SCALE).clamp(-1, 1).add(1).mul(127.5)
    large = nn.functional.interpolate(pictures, scale_factor=FACTOR, mode="bilinear").permute(0, 2, 3, 1)
    return large.cpu().numpy().astype(np.uint8)


def come_so_far(sigma: Level) -> Level:
    """How much of a picture there is at a level of a run, which begins with noise alone and goes straight on."""
    return 1 - sigma / sdxl_table().sigma_max
