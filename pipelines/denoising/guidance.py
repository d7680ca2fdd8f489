"""Guidance: from what the network predicts to the clean latent that the sampler is sent."""

import math

from torch import Tensor

LCM_SIGMA_DATA = 0.5
LCM_TIME_SCALE = 10.0


def clean_latent(x: Tensor, eps: Tensor, sigma: float) -> Tensor:
    """D = x - sigma * eps: the clean latent that a predicted noise implies."""
    return x - sigma * eps


def classifier_free(positive: Tensor, negative: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance on clean latents: D_neg + scale * (D_pos - D_neg) (Ho and Salimans 2022)."""
    return negative + scale * (positive - negative)


def consistency(clean: Tensor, x: Tensor, timestep: int) -> Tensor:
    """LCM's boundary condition c_out * D + c_skip * x at a training timestep (fooocus-facts 4.5)."""
    scaled = LCM_TIME_SCALE * timestep
    spread = scaled**2 + LCM_SIGMA_DATA**2
    return clean * (scaled / math.sqrt(spread)) + x * (LCM_SIGMA_DATA**2 / spread)
