"""What later parts are trained with: the finished text encoders and UNet, which stay as they are, and drawn scenes."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTokenizer

from benchmarks.pocket.reader import TOKENS, Reader
from models.pocket import shapes
from models.pocket.trained import trained
from pipelines.conditioning import TextEncoders
from training.pocket.dataset import FAR_CAP, Drawn, levels, noise_like, shown, things, weight
from training.pocket.run_dir import RunDir
from training.pocket.texts import make_encoders

PICTURES = "pictures"  # the part that draws what later ones learn from too
SNR_CAP = 5.0  # of an error's weight
THINGS = 5.0  # what a pixel of a thing counts for beside one of the background


def open_reader(tokenizer: CLIPTokenizer, checkpoints: Path | None, device: torch.device) -> Reader:
    """With the text encoders that `texts` left in `checkpoints`, or with the shipped ones."""
    own = checkpoints / "texts" / "encoders.pt" if checkpoints else None
    if own and own.is_file():
        return _reader(tokenizer, torch.load(own, map_location=device, weights_only=True), device)
    return _reader(tokenizer, [trained(part) for part in ("text_encoder", "text_encoder_2")], device)


def _reader(tokenizer: CLIPTokenizer, weights: Sequence[Mapping[str, Any]], device: torch.device) -> Reader:
    """weights: of both text encoders."""
    encoders: TextEncoders = make_encoders(len(tokenizer))
    for encoder, found in zip(encoders, weights, strict=True):
        encoder.load_state_dict(found)
        nn.Module.to(encoder, device).train(False).requires_grad_(False)
    return Reader(tokenizer, encoders)


def finished_unet(checkpoints: Path, stages: Sequence[str]) -> Path | None:
    """What the last of the stages of the UNet's training left in `checkpoints`, if one did."""
    left = (checkpoints / stage / "unet.pt" for stage in reversed(stages))
    return next((path for path in left if path.is_file()), None)


def left_or_shipped(checkpoints: Path, part: str, device: torch.device) -> dict[str, Tensor]:
    """The weights of a part of one file: as it was trained in `checkpoints`, or else as shipped."""
    own = checkpoints / part / "weights.pt"
    found: dict[str, Tensor] = (
        torch.load(own, map_location=device, weights_only=True) if own.is_file() else trained(part)
    )
    return {name: tensor.to(device) for name, tensor in found.items()}


def left_here(checkpoints: Path, part: str, name: str, device: torch.device) -> dict[str, Tensor]:
    """The file of a part that was trained in `checkpoints`, for another that goes on from it.

    Raises FileNotFoundError where it was not.
    """
    path = checkpoints / part / name
    if not path.is_file():
        raise FileNotFoundError(f"this goes on from {part}, which was not trained here: no {path}")
    found: dict[str, Tensor] = torch.load(path, map_location=device, weights_only=True)
    return found


@dataclass(frozen=True, eq=False)
class FrozenModels:
    """reader: captions as the UNet is told them. unet: without gradients of its own."""

    reader: Reader
    unet: Any
    drawings: RunDir
    _drawn: dict[tuple[int, int], Drawn] = field(default_factory=dict)

    @classmethod
    def open(
        cls, run_dir: RunDir, checkpoints: Path, tokenizer: CLIPTokenizer, stages: Sequence[str]
    ) -> "FrozenModels":
        """From what the last of the UNet's stages left in `checkpoints`, with its text encoders, or what is shipped."""
        device = run_dir.device
        own = finished_unet(checkpoints, stages)
        read_here = finished_unet(checkpoints, (PICTURES,))  # by it; `large` alone went on from what is shipped
        reader = open_reader(tokenizer, checkpoints if read_here else None, device)
        unet: Any = UNet2DConditionModel.from_config(dict(shapes.UNET)).to(device)
        found = torch.load(own, map_location=device, weights_only=True) if own else trained("unet")
        unet.load_state_dict(found)
        unet.requires_grad_(False)
        return cls(reader, unet, RunDir.open(checkpoints, PICTURES, device))

    @property
    def device(self) -> torch.device:
        return self.drawings.device

    def drawn(self, width: int, height: int | None = None) -> Drawn:
        """Scenes and their latents. height: without, pictures are square."""
        asked = width, height or width
        if asked not in self._drawn:
            self._drawn[asked] = Drawn.of(self.drawings, *asked)
        return self._drawn[asked]

    def told(self, said: Sequence[str]) -> tuple[Tensor, Tensor]:
        return self.reader(list(said), TOKENS)


@dataclass(frozen=True, eq=False)
class Noised:
    """Latents under noise of levels spread evenly by their logarithm.

    x: scaled to unit variance, (n, 4, h, w). noise: what is to be found in it, all that is not the picture. timesteps:
    (n,). weights: (n,), what each error counts for.
    """

    x: Tensor
    noise: Tensor
    timesteps: Tensor
    weights: Tensor

    @classmethod
    def of(cls, clean: Tensor, least: float, most: float, unknown: Tensor | None = None) -> "Noised":
        """unknown: (n, 1, h, w), where 1 a run begins with noise alone and where 0 with the picture under noise."""
        ends = (torch.full((len(clean),), level, device=clean.device) for level in (least, most))
        return cls.at(clean, *levels(*ends), unknown)

    @classmethod
    def at(
        cls,
        clean: Tensor,
        timesteps: Tensor,
        sigma: Tensor,
        unknown: Tensor | None = None,
        caps: tuple[float, float] = (SNR_CAP, FAR_CAP),
    ) -> "Noised":
        """At levels as `levels` gives them. caps: of `weight`."""
        share = shown(sigma)
        if unknown is not None:
            share = torch.where(unknown > 0, share, 1.0)
        x = share * clean + sigma * noise_like(clean)
        weights = weight(sigma.flatten(), *caps)
        return cls(x / (1 + sigma**2).sqrt(), (x - clean) / sigma, timesteps, weights)

    def loss(self, eps: Tensor, counts: Tensor | None = None) -> Tensor:
        """Of a guess of the noise. counts: (n, 1, h, w), what a pixel counts for; without, all count 1."""
        errors = (eps.float() - self.noise).square()
        if counts is not None:
            errors = errors * counts
        return (errors.mean(dim=(1, 2, 3)) * self.weights).mean()


def counts(clean: Tensor, thing: float = THINGS) -> Tensor:
    """(n, 1, h, w) of latents: what pixels count for, those of things more than the background, which is far larger."""
    return 1 + (thing - 1) * things(clean)[:, None]


def some(drawn: Drawn, count: int, chance: random.Random, device: torch.device) -> tuple[list[int], Tensor]:
    """Which scenes, and their latents (count, 4, h, w)."""
    chosen = chance.sample(range(len(drawn.scenes)), count)
    return chosen, drawn.latents[chosen].to(device).float()
