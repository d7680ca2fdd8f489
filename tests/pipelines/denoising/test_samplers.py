"""Samplers follow their formulas on denoisers whose answer is known."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from pipelines.denoising.samplers import Sampler, euler, lcm

SIGMAS = torch.tensor([14.6, 7.0, 3.0, 1.0, 0.3, 0.0])


def drive(sampler: Sampler, denoiser: Callable[[Tensor, float], Tensor]) -> tuple[Tensor, list[float]]:
    """Run a sampler against a denoiser; its result and the sigmas that it asked at."""
    asked = []
    try:
        x, sigma = next(sampler)
        while True:
            asked.append(sigma)
            x, sigma = sampler.send(denoiser(x, sigma))
    except StopIteration as end:
        return end.value, asked


def test_euler_asks_once_a_step() -> None:
    _, asked = drive(euler(torch.ones(3), SIGMAS), lambda x, _: x * 0)
    assert asked == pytest.approx(SIGMAS[:-1].tolist())


def test_euler_ends_on_a_constant_clean_latent() -> None:
    clean = torch.tensor([1.0, -2.0, 0.5])
    result, _ = drive(euler(torch.randn(3) * 14.6, SIGMAS), lambda x, sigma: clean)
    torch.testing.assert_close(result, clean)


def test_euler_approaches_the_exact_end_of_a_gaussian() -> None:
    """For unit Gaussian data D = x / (1 + sigma^2), and the flow ends at x0 / sqrt(1 + sigma0^2)."""
    x = torch.tensor([3.0, -20.0])
    sigmas = torch.cat([torch.logspace(1, -3, 2000), torch.zeros(1)])
    result, _ = drive(euler(x, sigmas), lambda x, sigma: x / (1 + sigma**2))
    torch.testing.assert_close(result, x / (1 + 10.0**2) ** 0.5, rtol=5e-3, atol=0)


def test_lcm_noises_the_clean_latent_to_each_next_level() -> None:
    clean = torch.tensor([1.0, 2.0])
    seen: list[Tensor] = []

    def denoiser(x: Tensor, sigma: float) -> Tensor:
        seen.append(x)
        return clean

    result, _ = drive(lcm(torch.zeros(2), SIGMAS, lambda *_: torch.ones(2)), denoiser)
    torch.testing.assert_close(result, clean)
    for x, (_, after) in zip(seen[1:], pairwise(SIGMAS.tolist()), strict=False):
        torch.testing.assert_close(x, clean + after)


def test_lcm_draws_no_noise_for_the_last_step() -> None:
    drawn = []
    drive(lcm(torch.zeros(1), SIGMAS, lambda *_: drawn.append(1) or torch.zeros(1)), lambda x, _: x)
    assert len(drawn) == len(SIGMAS) - 2
