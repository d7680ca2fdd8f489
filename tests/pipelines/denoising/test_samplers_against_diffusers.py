"""Samplers equal diffusers' schedulers on a toy denoiser, given their levels and their noise."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_ancestral_discrete import EulerAncestralDiscreteScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_heun_discrete import HeunDiscreteScheduler
from diffusers.schedulers.scheduling_lcm import LCMScheduler
from diffusers.schedulers.scheduling_tcd import TCDScheduler
from torch import Tensor

from pipelines.denoising import samplers
from pipelines.denoising.samplers import Noise, Sampler
from pipelines.denoising.schedules import sdxl_table
from pipelines.unet.guidance import consistency
from tests.pipelines.denoising.driving import drive

SDXL = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SHAPE = (1, 4, 8, 8)
# numpy 2 warns of what diffusers does to tensors while it makes its schedules
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def normal(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()


def noises() -> Callable[..., Tensor]:
    """The same noises in the same order for both sides."""
    seeds = iter(range(100, 300))
    return lambda *_, **__: normal(next(seeds))


def toy(x: Tensor, sigma: float) -> Tensor:
    """A clean latent that depends on x and sigma in no simple way."""
    return torch.tanh(x / (1 + sigma)) + 0.1 * torch.sin(3 * x / (1 + sigma**2) ** 0.5)


def from_karras_form(scheduler: Any) -> Tensor:
    """diffusers' result where its x grows with sigma as ours does."""
    x = normal(1) * scheduler.sigmas[0]
    for timestep in scheduler.timesteps:
        sigma = float(scheduler.sigmas[scheduler.step_index or 0])
        eps = (x - toy(x, sigma)) / sigma
        x = scheduler.step(eps, timestep, x, return_dict=False)[0]
    return x


def from_variance_preserving_form(scheduler: Any) -> Tensor:
    """diffusers' result where its x keeps its variance: x / sqrt(1 + sigma^2) is ours."""
    sigmas = [float(sigma) for sigma in scheduler.sigmas]
    x = normal(1) * sigmas[0] / (1 + sigmas[0] ** 2) ** 0.5
    noise = noises()
    for timestep, sigma in zip(scheduler.timesteps, sigmas, strict=False):
        grown = x * (1 + sigma**2) ** 0.5
        eps = (grown - toy(grown, sigma)) / sigma
        x = scheduler.step(eps, timestep, x, variance_noise=noise(), return_dict=False)[0]
    return x


@pytest.fixture
def same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let diffusers draw what `noises` gives, whatever module it draws in."""
    noise = noises()
    for module in ("euler_ancestral_discrete", "heun_discrete", "euler_discrete", "lcm", "tcd"):
        monkeypatch.setattr(f"diffusers.schedulers.scheduling_{module}.randn_tensor", noise, raising=False)


@pytest.mark.parametrize("steps", [5, 30])
@pytest.mark.parametrize(
    ("algorithm", "sampler"),
    [
        ("dpmsolver++", lambda x, sigmas, noise: samplers.dpmpp_2m(x, sigmas)),
        ("sde-dpmsolver++", samplers.dpmpp_2m_sde),
    ],
)
def test_multistep_solvers_equal_dpm_solver_multistep(
    steps: int, algorithm: str, sampler: Callable[[Tensor, Tensor, Noise], Sampler]
) -> None:
    scheduler: Any = DPMSolverMultistepScheduler(
        **SDXL, algorithm_type=algorithm, solver_type="midpoint", use_karras_sigmas=True, final_sigmas_type="zero"
    )
    scheduler.set_timesteps(steps)
    wanted = from_variance_preserving_form(scheduler)
    result, _ = drive(sampler(normal(1) * scheduler.sigmas[0], scheduler.sigmas, noises()), toy)
    torch.testing.assert_close(result, wanted, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("same_noise")
@pytest.mark.parametrize(
    ("make", "sampler"),
    [
        (EulerDiscreteScheduler, lambda x, sigmas, noise: samplers.euler(x, sigmas)),
        (EulerAncestralDiscreteScheduler, samplers.euler_ancestral),
    ],
)
def test_euler_and_its_ancestral_form_equal_diffusers(make: Any, sampler: Any) -> None:
    scheduler = make(**SDXL)
    scheduler.set_timesteps(12)
    wanted = from_karras_form(scheduler)
    result, _ = drive(sampler(normal(1) * scheduler.sigmas[0], scheduler.sigmas, noises()), toy)
    torch.testing.assert_close(result, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("same_noise")
def test_heun_equals_diffusers() -> None:
    scheduler: Any = HeunDiscreteScheduler(**SDXL)
    scheduler.set_timesteps(8)
    wanted = from_karras_form(scheduler)
    levels = torch.cat([scheduler.sigmas[:1], scheduler.sigmas[1:-1:2], torch.zeros(1)])
    result, _ = drive(samplers.heun(normal(1) * levels[0], levels), toy)
    torch.testing.assert_close(result, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("same_noise")
@pytest.mark.parametrize("name", ["lcm", "tcd"])
def test_distilled_samplers_equal_diffusers_up_to_their_last_jump(name: str) -> None:
    """In the last step diffusers stops at the table's lowest level, we at 0: there both have the same clean latent."""
    scheduler: Any = {"lcm": LCMScheduler, "tcd": TCDScheduler}[name](**SDXL)
    scheduler.set_timesteps(6)
    timesteps = [int(timestep) for timestep in scheduler.timesteps]
    table = sdxl_table()
    levels = torch.cat([table.sigmas[timesteps], torch.zeros(1)])
    at = dict(zip(levels.tolist(), timesteps, strict=False))

    def denoiser(x: Tensor, sigma: float) -> Tensor:
        return consistency(toy(x, sigma), x, at[sigma]) if name == "lcm" else toy(x, sigma)

    kept = (levels**2 + 1).sqrt()
    x = normal(1) * levels[0] / kept[0]
    for timestep, sigma, grown in zip(timesteps[:-1], levels.tolist(), kept.tolist(), strict=False):
        eps = (x * grown - toy(x * grown, sigma)) / sigma
        x = scheduler.step(eps, timestep, x, return_dict=False)[0]
    wanted = denoiser(x * kept[-2], float(levels[-2]))

    def below(after: float) -> float:
        return float(table.sigmas[math.floor(0.7 * at[after])])

    ours = normal(1) * levels[0]
    result, _ = drive(
        samplers.lcm(ours, levels, noises()) if name == "lcm" else samplers.tcd(ours, levels, noises(), below), denoiser
    )
    torch.testing.assert_close(result, wanted, atol=2e-5, rtol=0)
