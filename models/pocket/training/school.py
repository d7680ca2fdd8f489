"""What later parts are trained with: the finished text encoders and UNet, which stay as they are, and drawn scenes."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTokenizer

from models.pocket import shapes
from models.pocket.training.lessons import Drawn, Reader
from models.pocket.training.session import Session
from pipelines.denoising.schedules import sdxl_table

PICTURES: Mapping[int, int] = MappingProxyType({128: 24_000, 256: 24_000, 512: 6_000, 1024: 2_000})
TOKENS = 32
SNR_CAP = 5.0  # of min-SNR's weight (Hang et al. 2023)


@dataclass(frozen=True, eq=False)
class School:
    """reader: captions as the UNet is told them. unet: without gradients of its own."""

    reader: Reader
    unet: Any
    drawings: Session
    _drawn: dict[int, Drawn] = field(default_factory=dict)

    @classmethod
    def open(cls, session: Session, checkpoints: Path, tokenizer: CLIPTokenizer) -> "School":
        """From what `texts` and `pictures` left in `checkpoints`."""
        device = session.device
        reader = Reader.load(tokenizer, checkpoints / "texts" / "encoders.pt", device)
        unet: Any = UNet2DConditionModel.from_config(dict(shapes.UNET)).to(device)
        weights = torch.load(checkpoints / "pictures" / "unet.pt", map_location=device, weights_only=True)
        unet.load_state_dict(weights)
        unet.requires_grad_(False)
        return cls(reader, unet, Session(checkpoints / "pictures", device, session.console))

    @property
    def device(self) -> torch.device:
        return self.drawings.device

    def drawn(self, side: int) -> Drawn:
        """Scenes and their latents."""
        if side not in self._drawn:
            self._drawn[side] = Drawn.of(self.drawings, side, PICTURES[side])
        return self._drawn[side]

    def told(self, said: Sequence[str]) -> tuple[Tensor, Tensor]:
        return self.reader(list(said), TOKENS)


@dataclass(frozen=True, eq=False)
class Noised:
    """Latents under noise of levels spread evenly by their logarithm.

    x: scaled to unit variance, (n, 4, h, w). noise: what is to be found in it. timesteps: (n,). weights: (n,), what
    each error counts for.
    """

    x: Tensor
    noise: Tensor
    timesteps: Tensor
    weights: Tensor

    @classmethod
    def of(cls, clean: Tensor, least: float, most: float) -> "Noised":
        sigmas = sdxl_table().sigmas.to(clean.device)
        wanted = torch.empty(len(clean), device=clean.device).uniform_(math.log(least), math.log(most)).exp()
        timesteps = torch.searchsorted(sigmas, wanted).clamp(max=len(sigmas) - 1)
        sigma = sigmas[timesteps]
        rows = sigma[:, None, None, None]
        noise = torch.randn_like(clean)
        weights = (sigma**2 * SNR_CAP).clamp(max=1.0) + (0.3 * sigma**2).clamp(max=6.0)
        return cls((clean + rows * noise) / (1 + rows**2).sqrt(), noise, timesteps, weights)

    def loss(self, eps: Tensor) -> Tensor:
        """Of a guess of the noise."""
        return ((eps.float() - self.noise).square().mean(dim=(1, 2, 3)) * self.weights).mean()


def some(drawn: Drawn, count: int, chance: random.Random, device: torch.device) -> tuple[list[int], Tensor]:
    """Which scenes, and their latents (count, 4, h, w)."""
    chosen = chance.sample(range(len(drawn.scenes)), count)
    return chosen, drawn.latents[chosen].to(device).float()
