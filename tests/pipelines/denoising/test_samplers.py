"""Samplers follow their formulas on denoisers whose answer is known."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from pipelines.denoising import samplers
from pipelines.denoising.brownian import BrownianTree
from pipelines.denoising.samplers import Noise, Sampler
from pipelines.denoising.schedules import karras, sdxl_table
from pipelines.denoising.uni_pc import uni_pc
from tests.pipelines.denoising.driving import drive

SIGMAS = torch.tensor([14.6, 7.0, 3.0, 1.0, 0.3, 0.0])
SPREAD = 0.5  # deviation of the data of the Gaussian denoiser

Make = Callable[[Tensor, Tensor, Noise], Sampler]

DETERMINISTIC: dict[str, Make] = {
    "euler": lambda x, sigmas, _: samplers.euler(x, sigmas),
    "euler_ancestral, eta 0": lambda x, sigmas, noise: samplers.euler_ancestral(x, sigmas, noise, eta=0),
    "heun": lambda x, sigmas, _: samplers.heun(x, sigmas),
    "dpmpp_2m": lambda x, sigmas, _: samplers.dpmpp_2m(x, sigmas),
    "dpmpp_2m_sde, eta 0": lambda x, sigmas, noise: samplers.dpmpp_2m_sde(x, sigmas, noise, eta=0),
    "dpmpp_3m_sde, eta 0": lambda x, sigmas, noise: samplers.dpmpp_3m_sde(x, sigmas, noise, eta=0),
    "dpmpp_sde, eta 0": lambda x, sigmas, noise: samplers.dpmpp_sde(x, sigmas, noise, eta=0),
    "uni_pc": lambda x, sigmas, _: uni_pc(x, sigmas),
    "uni_pc_bh2": lambda x, sigmas, _: uni_pc(x, sigmas, "bh2"),
}
STOCHASTIC: dict[str, Make] = {
    "euler_ancestral": samplers.euler_ancestral,
    "dpmpp_2m_sde": samplers.dpmpp_2m_sde,
    "dpmpp_3m_sde": samplers.dpmpp_3m_sde,
    "dpmpp_sde": samplers.dpmpp_sde,
    "lcm": samplers.lcm,
    "tcd": lambda x, sigmas, noise: samplers.tcd(x, sigmas, noise, below=lambda after: 0.7 * after),
}
EVERY = {**DETERMINISTIC, **STOCHASTIC}
TWICE = {"heun", "dpmpp_sde", "dpmpp_sde, eta 0"}  # two evaluations in each step but the last


def gaussian(x: Tensor, sigma: float) -> Tensor:
    """The clean latent that is expected of data with deviation SPREAD."""
    return x * SPREAD**2 / (SPREAD**2 + sigma**2)


def start(size: int = 64) -> Tensor:
    return torch.randn(1, size, size, generator=torch.Generator().manual_seed(1)) * 14.6


def path(seed: int, like: Tensor, sigmas: Tensor) -> Noise:
    positive = sigmas[sigmas > 0].tolist()
    return BrownianTree(seed, tuple(like.shape), positive[-1], positive[0])


@pytest.mark.parametrize("name", EVERY)
def test_a_constant_clean_latent_is_reached(name: str) -> None:
    clean = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(2))
    x = start(8)
    result, asked = drive(EVERY[name](x, SIGMAS, path(3, x, SIGMAS)), lambda x, sigma: clean)
    torch.testing.assert_close(result, clean, atol=1e-4, rtol=0)
    steps = len(SIGMAS) - 1
    assert len(asked) == (2 * steps - 1 if name in TWICE else steps)


@pytest.mark.parametrize("name", EVERY)
def test_the_denoiser_is_asked_at_the_levels_in_descending_order(name: str) -> None:
    x = start(8)
    _, asked = drive(EVERY[name](x, SIGMAS, path(3, x, SIGMAS)), gaussian)
    assert asked == sorted(asked, reverse=True)
    assert set(SIGMAS[:-1].tolist()) <= set(asked)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_the_flow_of_a_gaussian_is_followed_to_its_exact_end(name: str) -> None:
    """The probability flow scales x by SPREAD / sqrt(SPREAD^2 + sigma0^2); more steps come nearer, by their order."""
    x = start()
    exact = x * SPREAD / (SPREAD**2 + 14.6**2) ** 0.5

    def miss(steps: int) -> float:
        sigmas = torch.cat([torch.linspace(math.log(14.6), math.log(1e-4), steps).exp(), torch.zeros(1)])
        result, _ = drive(DETERMINISTIC[name](x, sigmas, path(4, x, sigmas)), gaussian)
        return float((result - exact).abs().max())

    order = 1 if name.startswith("euler") else 2
    assert miss(40) < 1.0
    assert miss(80) < miss(40) / 1.7**order


@pytest.mark.parametrize("name", sorted(set(STOCHASTIC) - {"lcm", "tcd"}))
def test_a_stochastic_sampler_ends_in_the_datas_distribution(name: str) -> None:
    sigmas = karras(sdxl_table(), 60)
    x = start(128)
    result, _ = drive(STOCHASTIC[name](x, sigmas, path(5, x, sigmas)), gaussian)
    assert float(result.std()) == pytest.approx(SPREAD, rel=0.1)
    assert abs(float(result.mean())) < 0.02


@pytest.mark.parametrize("name", STOCHASTIC)
def test_a_stochastic_sampler_depends_on_its_noise_alone(name: str) -> None:
    x = start(16)
    one, again, other = (drive(STOCHASTIC[name](x, SIGMAS, path(seed, x, SIGMAS)), gaussian)[0] for seed in (6, 6, 7))
    assert torch.equal(one, again)
    assert not torch.allclose(one, other, atol=1e-2)


def test_heun_and_a_midpoint_know_their_second_levels() -> None:
    _, asked = drive(samplers.heun(start(2), SIGMAS), gaussian)
    assert asked[:3] == pytest.approx([14.6, 7.0, 7.0])
    _, asked = drive(samplers.dpmpp_sde(start(2), SIGMAS, lambda *_: torch.zeros(1)), gaussian)
    assert asked[:3] == pytest.approx([14.6, (14.6 * 7.0) ** 0.5, 7.0])


def test_lcm_noises_the_clean_latent_to_each_next_level() -> None:
    clean = torch.tensor([1.0, 2.0])
    seen: list[Tensor] = []

    def denoiser(x: Tensor, sigma: float) -> Tensor:
        seen.append(x)
        return clean

    result, _ = drive(samplers.lcm(torch.zeros(2), SIGMAS, lambda *_: torch.ones(2)), denoiser)
    torch.testing.assert_close(result, clean)
    for x, (_, after) in zip(seen[1:], pairwise(SIGMAS.tolist()), strict=False):
        torch.testing.assert_close(x, clean + after)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_the_last_step_takes_no_noise(name: str) -> None:
    drawn: list[float] = []

    def noise(sigma: float, after: float) -> Tensor:
        drawn.append(after)
        return torch.zeros(1)

    drive(STOCHASTIC[name](start(2), SIGMAS, noise), gaussian)
    assert 0 not in drawn
    assert set(SIGMAS[1:-1].tolist()) <= set(drawn)
