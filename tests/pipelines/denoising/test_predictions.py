"""Families that predict velocities, or were trained to zero terminal SNR, are drawn as diffusers draws them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from torch import Tensor

from pipelines.catalogue import Catalogue
from pipelines.denoising.denoisers import evaluate, sample
from pipelines.denoising.noise import SAMPLERS, draw_noise
from pipelines.denoising.samplers import euler
from pipelines.denoising.schedules import SCHEDULES, lcm_table, sdxl_table
from pipelines.denoising.sigma_schedule import sigma_schedule
from pipelines.parts import Prediction
from pipelines.spec import Guidance as Asked
from pipelines.spec import SamplerName, Spec
from pipelines.unet.guidance import clean_latent, implied_noise, prediction_of
from pipelines.unet.guide import Guide
from pipelines.weights.bases import clone_sharing_parameters
from pipelines.weights.family import Family
from tests.pipelines.denoising.driving import drive as run_sampler
from tests.pipelines.denoising.sdxl_pipeline import drive, first_noise, pipelines_latent, plain_guide
from tests.pipelines.studio import Studio, spec

PLAIN, ZERO = False, True
STEPS = 5


def scheduler(spacing: str, prediction: Prediction, zero: bool) -> Any:
    made: Any = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction,
        timestep_spacing=spacing,
        rescale_betas_zero_snr=zero,
    )
    return made


def run_spec(schedule: str, steps: int, sampler: str = "euler") -> Spec:
    return Spec.model_validate({"seeds": (1,), "steps": steps, "sampler": sampler, "schedule": schedule})


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("zero", [PLAIN, ZERO])
@pytest.mark.parametrize(("schedule", "spacing", "steps"), [("simple", "trailing", 20), ("normal", "linspace", 28)])
def test_the_levels_are_diffusers(schedule: str, spacing: str, steps: int, zero: bool) -> None:
    wanted = scheduler(spacing, "v_prediction", zero)
    wanted.set_timesteps(steps)
    found = sigma_schedule(run_spec(schedule, steps), sdxl_table(zero))
    torch.testing.assert_close(found.sigmas, wanted.sigmas, rtol=1e-4, atol=1e-6)
    assert [found.table.timestep(sigma) for sigma in found.sigmas[:-1].tolist()] == wanted.timesteps.tolist()


def test_the_table_of_zero_terminal_snr_keeps_its_first_level_and_begins_at_noise() -> None:
    plain, zero = sdxl_table(), sdxl_table(zero_terminal_snr=True)
    assert zero.sigma_min == pytest.approx(plain.sigma_min, rel=1e-6)
    assert zero.sigma_max == pytest.approx(4096, rel=1e-6)
    assert (zero.sigmas[1:] > plain.sigmas[1:]).all()
    assert lcm_table(zero).whole is zero
    assert sdxl_table().sigma_max == pytest.approx(14.6146, abs=1e-4)


def toy_run(sampler: SamplerName, schedule: str, answer: Tensor) -> tuple[Tensor, list[float]]:
    """A run with the levels of zero terminal SNR, whose denoiser always answers the same; and the levels it saw."""
    run = sigma_schedule(run_spec(schedule, 8, sampler), sdxl_table(zero_terminal_snr=True))
    noise = draw_noise(sampler, run, tuple(answer.shape), 7)
    seen: list[float] = []

    def clean(x: Tensor, sigma: float) -> Tensor:
        seen.append(sigma)
        return answer

    x = noise.first * run.first_deviation
    return run_sampler(SAMPLERS[sampler].make(x, run, noise.replay()), clean)[0], seen


@pytest.mark.parametrize("sampler", get_args(SamplerName))
@pytest.mark.parametrize("schedule", sorted({*SCHEDULES, "lcm"} - {"align_your_steps"}))
def test_every_sampler_comes_down_from_the_top_of_zero_terminal_snr(sampler: SamplerName, schedule: str) -> None:
    wanted = torch.tensor([[-1.0, 0.5], [2.0, 0.0]])
    found, seen = toy_run(sampler, schedule, wanted)
    assert seen[0] == (pytest.approx(4096, rel=1e-5) if schedule != "ddim_uniform" else seen[0])
    # what is left of the noise: where a solver leaves the lowest level out, and the rounding of 4096 in float32
    torch.testing.assert_close(found, wanted, atol=5e-3, rtol=0)


@pytest.mark.parametrize("sigma", [0.03, 1.0, 14.6, 4096.0])
def test_a_velocity_implies_clean_latent_and_noise(sigma: float) -> None:
    """By its definition in a latent of kept variance: alpha * eps - sqrt(1 - alpha^2) * D."""
    clean, eps = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(1)).double().unbind()
    x, alpha = clean + sigma * eps, (1 + sigma**2) ** -0.5
    velocity = alpha * eps - sigma * alpha * clean
    sigmas = torch.full((3,), sigma, dtype=torch.float64)
    torch.testing.assert_close(clean_latent(x, velocity, sigmas, "v_prediction"), clean)
    torch.testing.assert_close(implied_noise(x, velocity, sigmas, "v_prediction"), eps)
    torch.testing.assert_close(prediction_of(x, eps, sigmas, "v_prediction"), velocity)


def test_the_clean_latent_of_a_velocity_survives_float32_at_the_top() -> None:
    clean, eps = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(1)).double().unbind()
    sigma = 4096.0
    velocity = (eps - sigma * clean) / (1 + sigma**2) ** 0.5
    found = clean_latent((clean + sigma * eps).float(), velocity.float(), sigma, "v_prediction")
    torch.testing.assert_close(found, clean.float(), atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@torch.inference_mode()
@pytest.mark.parametrize(
    ("prediction", "zero", "scale", "rescale"),
    [
        ("v_prediction", ZERO, 1.0, 0.0),
        ("v_prediction", ZERO, 5.0, 0.7),
        ("v_prediction", PLAIN, 5.0, 0.7),
        ("epsilon", ZERO, 5.0, 0.0),
    ],
)
def test_a_whole_run_equals_the_pipeline(
    pocket_family: Family, prediction: Prediction, zero: bool, scale: float, rescale: float
) -> None:
    """The pocket UNet's answer is taken for either kind: what comes of it is no picture, and the same on both sides."""
    wanted = pipelines_latent(pocket_family, scheduler("trailing", prediction, zero), STEPS, scale, rescale)

    run = sigma_schedule(run_spec("simple", STEPS), sdxl_table(zero))
    guide = plain_guide(pocket_family, scale, rescale, prediction)
    x = first_noise() * float(run.sigmas[0])
    (found,) = drive(pocket_family, [sample(euler(x, run.sigmas), evaluate(guide, run.table))])
    spread = float(wanted.std())
    assert spread > 0.1
    torch.testing.assert_close(found / spread, wanted / spread, atol=1e-4, rtol=1e-4)


def trained_as(family: Family, **how: Any) -> Family:
    """A family of the same weights whose catalogue says how they were trained."""
    catalogue = Catalogue(family.catalogue.root, family.catalogue.file.model_copy(update=how))
    return replace(family, catalogue=catalogue)


@pytest.fixture(scope="module")
def velocity(pocket_family: Family) -> Iterator[Studio]:
    """The pocket family, its UNet made to say its noise as a velocity."""
    unet: Any = clone_sharing_parameters(pocket_family.unet, {})
    sigmas = sdxl_table().sigmas

    def convert(module: Any, given: tuple[Tensor, Tensor], answer: tuple[Tensor]) -> tuple[Tensor]:
        x, timesteps = given  # x of kept variance
        sigma = sigmas[timesteps.long()][:, None, None, None]
        return ((1 + sigma**2) ** 0.5 * answer[0] - sigma * x,)

    unet.register_forward_hook(convert)
    studio = Studio(replace(trained_as(pocket_family, prediction="v_prediction"), unet=unet))
    yield studio
    studio.drawer.close()


@pytest.fixture(scope="module")
def noise(pocket_family: Family) -> Iterator[Studio]:
    studio = Studio(pocket_family)
    yield studio
    studio.drawer.close()


@pytest.mark.parametrize(
    "guidance", [Asked(scale=1.0), Asked(scale=9.0, mimicked=7.0, sharpness=30.0)], ids=["plain", "guided"]
)
def test_a_family_that_predicts_velocities_draws_the_same_picture(
    velocity: Studio, noise: Studio, guidance: Asked
) -> None:
    """With all of Fooocus' guidance: it acts on noises, whatever the family predicts."""
    wanted = spec(sampler="euler", schedule="simple", loras=(), guidance=guidance, steps=5)
    pictures = [studio.draw(wanted).astype(int) for studio in (velocity, noise)]
    torch.testing.assert_close(velocity.watched.latents[-1], noise.watched.latents[-1], atol=1e-3, rtol=0)
    assert np.abs(pictures[0] - pictures[1]).max() <= 1
    assert pictures[0].std() > 5


def test_the_family_says_where_its_runs_begin(pocket_family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 4096 with the first timestep that its catalogue promises, through the drawer."""
    studio = Studio(trained_as(pocket_family, prediction="v_prediction", zero_terminal_snr=True))
    asked: list[tuple[float, int, str]] = []
    original = Guide.evaluate

    def noted(guide: Guide, x: Tensor, sigma: float, timestep: int) -> Any:
        asked.append((sigma, timestep, guide.prediction))
        return original(guide, x, sigma, timestep)

    monkeypatch.setattr(Guide, "evaluate", noted)
    try:
        studio.draw(spec(sampler="euler", schedule="sgm_uniform", loras=(), steps=2))
    finally:
        studio.drawer.close()
    assert [(timestep, prediction) for _, timestep, prediction in asked] == [
        (999, "v_prediction"),
        (499, "v_prediction"),
    ]
    assert asked[0][0] == pytest.approx(4096, rel=1e-6)
