"""Samplers: generators that ask for the clean latent of x at sigma and end with the picture's latent.

Each one is written for a single image. It yields (x, sigma), is sent the guided clean latent D, and returns x at the
last sigma. sigmas: (steps + 1,) descending, the last one 0. Noise is injected, never drawn inside: noise(sigma, after)
is standard normal noise for the way between the two levels. Formulas are k-diffusion's; fooocus-facts 4.5 lists those
of the built-in modes.
"""

import math
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


def euler_ancestral(x: Tensor, sigmas: Tensor, noise: Noise, eta: float = 1.0) -> Sampler:
    """Euler's method to below the next level, then noise up to it (ancestral sampling). eta: 0 is plain Euler."""
    for sigma, after in pairwise(sigmas.tolist()):
        clean = yield x, sigma
        down, up = _ancestral(sigma, after, eta)
        x = x + (x - clean) / sigma * (down - sigma)
        if up > 0:
            x = x + up * noise(sigma, after)
    return x


def heun(x: Tensor, sigmas: Tensor) -> Sampler:
    """Heun's second-order method (Karras et al. 2022, algorithm 1): two evaluations a step, one in the last."""
    for sigma, after in pairwise(sigmas.tolist()):
        clean = yield x, sigma
        slope = (x - clean) / sigma
        guess = x + slope * (after - sigma)
        if after > 0:
            clean = yield guess, after
            guess = x + (slope + (guess - clean) / after) / 2 * (after - sigma)
        x = guess
    return x


def dpmpp_2m(x: Tensor, sigmas: Tensor) -> Sampler:
    """DPM-Solver++(2M) (Lu et al. 2022): second order from the step before, one evaluation a step."""
    before, h_before = x, math.inf
    for sigma, after in pairwise(sigmas.tolist()):
        clean = yield x, sigma
        if after == 0:
            return clean
        h = math.log(sigma / after)
        ahead = clean + (clean - before) * (h / h_before / 2)
        x = after / sigma * x - math.expm1(-h) * ahead
        before, h_before = clean, h
    return x


def dpmpp_2m_sde(x: Tensor, sigmas: Tensor, noise: Noise, eta: float = 1.0) -> Sampler:
    """DPM-Solver++(2M) SDE in its midpoint form, Fooocus' default. eta: 0 is the plain multistep solver."""
    before, h_before = x, math.inf
    for sigma, after in pairwise(sigmas.tolist()):
        clean = yield x, sigma
        if after == 0:
            return clean
        h = math.log(sigma / after)
        ahead = clean + (clean - before) * (h / h_before / 2)
        x = after / sigma * math.exp(-eta * h) * x - math.expm1(-h - eta * h) * ahead
        if eta > 0:
            x = x + after * math.sqrt(-math.expm1(-2 * eta * h)) * noise(sigma, after)
        before, h_before = clean, h
    return x


def dpmpp_3m_sde(x: Tensor, sigmas: Tensor, noise: Noise, eta: float = 1.0) -> Sampler:
    """DPM-Solver++(3M) SDE: third order from the two steps before."""
    history: list[tuple[Tensor, float]] = []  # clean latent and log-step of the steps before, newest first
    for sigma, after in pairwise(sigmas.tolist()):
        clean = yield x, sigma
        if after == 0:
            return clean
        h = math.log(sigma / after)
        total = h * (1 + eta)
        x = math.exp(-total) * x - math.expm1(-total) * clean
        second = math.expm1(-total) / total + 1
        third = second / total - 0.5
        if len(history) == 2:
            (one, h_one), (two, h_two) = history
            near, far = (clean - one) * (h / h_one), (one - two) * (h / h_two)
            x = x + second * (near + (near - far) * (h_one / (h_one + h_two)))
            x = x - third * (near - far) * (h / (h_one + h_two))
        elif history:
            one, h_one = history[0]
            x = x + second * (clean - one) * (h / h_one)
        if eta > 0:
            x = x + after * math.sqrt(-math.expm1(-2 * eta * h)) * noise(sigma, after)
        history = [(clean, h), *history[:1]]
    return x


def dpmpp_sde(x: Tensor, sigmas: Tensor, noise: Noise, eta: float = 1.0) -> Sampler:
    """DPM-Solver++ SDE with r = 1/2: the second evaluation of a step is at its middle in log-sigma; Euler to 0."""
    for sigma, after in pairwise(sigmas.tolist()):
        clean = yield x, sigma
        if after == 0:
            return clean
        middle = math.sqrt(sigma * after)
        down, up = _ancestral(sigma, middle, eta)
        guess = clean + (x - clean) * (down / sigma) + up * noise(sigma, middle)
        clean = yield guess, middle
        down, up = _ancestral(sigma, after, eta)
        x = clean + (x - clean) * (down / sigma) + up * noise(sigma, after)
    return x


def lcm(x: Tensor, sigmas: Tensor, noise: Noise) -> Sampler:
    """Latent consistency sampling (Luo et al. 2023): jump to the clean latent, then noise it to the next level."""
    for sigma, after in pairwise(sigmas.tolist()):
        x = yield x, sigma
        if after > 0:
            x = x + after * noise(sigma, after)
    return x


def tcd(x: Tensor, sigmas: Tensor, noise: Noise, below: Callable[[float], float]) -> Sampler:
    """Trajectory consistency sampling (Zheng et al. 2024): jump below the next level, then noise up to it.

    below(after): the level to jump to, at timestep floor((1 - gamma) * t) where t is that of `after`.
    """
    for sigma, after in pairwise(sigmas.tolist()):
        clean = yield x, sigma
        if after == 0:
            return clean
        low = min(below(after), after)
        x = clean + (x - clean) * (low / sigma) + math.sqrt(after**2 - low**2) * noise(sigma, after)
    return x


def _ancestral(sigma: float, after: float, eta: float) -> tuple[float, float]:
    """The level to go down to, and the deviation of the noise that leads from there up to `after`."""
    up = min(after, eta * math.sqrt(after**2 * (sigma**2 - after**2) / sigma**2))
    return math.sqrt(after**2 - up**2), up
