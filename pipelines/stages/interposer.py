"""The stage of the interposer: from the family's latents to those of a Stable Diffusion 1.5 refiner."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from pipelines.engine.tasks import Answers, Ask, Stage
from pipelines.memory.residency import RESIDENT, Residency
from pipelines.weights.refiners import OwnLatents


@dataclass(frozen=True, eq=False)
class Interpose(Ask[Tensor]):
    """Make a latent that another VAE reads. latent: (channels, h, w), scaled as the family's VAE has it; the answer,
    float32, as `own.vae` has it."""

    latent: Tensor
    own: OwnLatents

    @property
    def key(self) -> Hashable:
        return id(self.own)


class InterposerStage(Stage[Interpose, Tensor]):
    """One latent a call."""

    name = "interpose"
    asked = Interpose

    def __init__(self, vae: AutoencoderKL, residency: Residency = RESIDENT) -> None:
        """vae: of the family."""
        self._scale: float = vae.config["scaling_factor"]
        self._residency = residency

    def run(self, asks: Sequence[Interpose]) -> Answers[Tensor]:
        made = [self._interpose(ask) for ask in asks]
        return Answers(made, torch.stack([torch.linalg.vector_norm(latent, torch.inf) for latent in made]))

    def _interpose(self, ask: Interpose) -> Tensor:
        self._residency.bring(ask.own.interposer)
        plain: Tensor = ask.own.interposer((ask.latent / self._scale)[None])[0]
        scale: float = ask.own.vae.config["scaling_factor"]
        return plain * scale
