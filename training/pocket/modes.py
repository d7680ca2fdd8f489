"""The performance modes whose LoRAs are trained: their levels, what a run has there, and what it takes for the end."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.pocket.latents import come_so_far
from benchmarks.pocket.sampling import predict
from pipelines.denoising.schedules import NoiseTable, lcm_table, sdxl_table, sgm_uniform
from pipelines.unet.guidance import consistency
from training.pocket.trainer import Plan


@dataclass(frozen=True, slots=True)
class Mode:
    """A performance mode.

    steps: of a run. distilled: whether it runs on LCM's levels with LCM's boundary condition. plan: of its training.
    """

    steps: int
    distilled: bool
    plan: Plan

    def table(self) -> NoiseTable:
        return lcm_table(sdxl_table()) if self.distilled else sdxl_table()

    def levels(self) -> list[float]:
        """Sigmas to train at: all of LCM's, so that other numbers of steps work too, or just those of the run."""
        chosen = self.table().sigmas if self.distilled else sgm_uniform(self.table(), self.steps)[:-1]
        return [float(sigma) for sigma in chosen]

    def shown(self, sigma: float) -> float:
        """How much of a picture there is at a level of a run, which begins with none.

        LCM's sampler puts fresh noise on a whole one; Euler's goes over from the noise to it.
        """
        if begins(sigma):
            return 0.0
        return 1.0 if self.distilled else come_so_far(sigma)

    def guess(self, unet: Any, x: Tensor, sigmas: Tensor, context: Tensor, pooled: Tensor) -> Tensor:
        """What a run takes for the end at x, (n, 4, h, w). sigmas: (n,), each row's own level."""
        clean = end_of(unet, x, sigmas, context, pooled)
        if not self.distilled:
            return clean
        at = (sdxl_table().timestep(sigma) for sigma in sigmas.tolist())
        return torch.stack([consistency(end, row, when) for end, row, when in zip(clean, x, at, strict=True)])


def begins(sigma: float) -> bool:
    """Whether a run is at its first level, of noise alone."""
    return sigma > 0.99 * sdxl_table().sigma_max


def end_of(unet: Any, x: Tensor, sigmas: Tensor, context: Tensor, pooled: Tensor) -> Tensor:
    """The clean latents that a UNet sees in x, (n, 4, h, w), at each row's own level, (n,)."""
    at = torch.tensor([sdxl_table().timestep(sigma) for sigma in sigmas.tolist()], device=x.device)
    level = sigmas[:, None, None, None]
    return x - level * predict(unet, x / (1 + level**2).sqrt(), at, context, pooled)
