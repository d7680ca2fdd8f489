"""Text-to-image equals diffusers' own SDXL pipeline, given its levels, its first noise and its plain size ids."""

from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

from pipelines.denoising.denoisers import evaluate, sample, watched
from pipelines.denoising.samplers import euler
from pipelines.denoising.schedules import sdxl_table
from pipelines.denoising.sigma_schedule import SigmaSchedule
from pipelines.weights.family import Family
from tests.pipelines.denoising.sdxl_pipeline import drive, first_noise, pipelines_latent, plain_guide

STEPS = 6


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@torch.inference_mode()
@pytest.mark.parametrize("scale", [1.0, 5.0])
@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_euler_equals_the_pipeline(pocket_family: Family, scale: float, rescale: float) -> None:
    scheduler: Any = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1
    )
    wanted = pipelines_latent(pocket_family, scheduler, STEPS, scale, rescale)

    guide = plain_guide(pocket_family, scale, rescale)
    schedule = SigmaSchedule(sdxl_table(), scheduler.sigmas)
    x = first_noise() * scheduler.init_noise_sigma
    denoiser = watched(evaluate(guide, schedule.table), schedule)
    (found,) = drive(pocket_family, [sample(euler(x, schedule.sigmas), denoiser)])
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=0)
    assert found.abs().max() > 0.1
