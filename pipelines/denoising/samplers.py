"""Samplers: generators that ask for the clean latent of x at sigma and end with the picture's latent.

Each one is written for a single image. It yields (x, sigma), is sent the guided clean latent D, and returns x at the
last sigma. Noise is injected, never drawn inside: noise(sigma, after) is the standard normal for the step between them.
Formulas are k-diffusion's; fooocus-facts 4.5 lists them.
"""

from collections.abc import Callable, Generator
from itertools import pairwise

from torch import Tensor

Asked = tuple[Tensor, float]
Sampler = Generator[Asked, Tensor, Tensor]
Noise = Callable[[float, float], Tensor]


def euler(x: Tensor, sigmas: Tensor) -> Sampler:
    """Euler's method on the probability-flow ODE (Karras et al. 2022, algorithm 2 without churn)."""
    for sigma, after in pairwise(sigmas.tolist()):
        clean = yield x, sigma
        x = x + (x - clean) / sigma * (after - sigma)
    return x


def lcm(x: Tensor, sigmas: Tensor, noise: Noise) -> Sampler:
    """Latent consistency sampling (Luo et al. 2023): jump to the clean latent, then noise it to the next level."""
    for sigma, after in pairwise(sigmas.tolist()):
        x = yield x, sigma
        if after > 0:
            x = x + after * noise(sigma, after)
    return x
