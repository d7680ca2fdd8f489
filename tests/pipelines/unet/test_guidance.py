"""Guidance: small formulas against values worked out by hand and against diffusers."""

import math

import pytest
import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import rescale_noise_cfg

from pipelines.unet.guidance import (
    adaptive_scale,
    classifier_free,
    clean_latent,
    consistency,
    progress,
    rescaled,
)


def test_clean_latent_removes_the_predicted_noise() -> None:
    assert clean_latent(torch.tensor([5.0]), torch.tensor([2.0]), 1.5).item() == 2.0


def test_clean_latents_of_a_batch_have_a_sigma_each() -> None:
    clean = clean_latent(torch.full((2, 1, 1, 1), 5.0), torch.full((2, 1, 1, 1), 2.0), torch.tensor([1.0, 2.0]))
    assert clean.flatten().tolist() == [3.0, 1.0]


def test_progress_runs_from_the_last_timestep_to_the_first() -> None:
    assert [progress(timestep) for timestep in (999, 0)] == [0.0, 1.0]


@pytest.mark.parametrize(("scale", "wanted"), [(0.0, 1.0), (1.0, 3.0), (4.0, 9.0)])
def test_classifier_free_extrapolates_from_negative_through_positive(scale: float, wanted: float) -> None:
    assert classifier_free(torch.tensor([3.0]), torch.tensor([1.0]), scale).item() == wanted


@pytest.mark.parametrize(
    ("scale", "mimicked", "done", "wanted"),
    [
        (4.0, 7.0, 0.3, 4.0),
        (7.0, 7.0, 0.3, 7.0),
        (12.0, 7.0, 0.0, 7.0),
        (12.0, 7.0, 0.4, 9.0),
        (12.0, 7.0, 1.0, 12.0),
        (12.0, math.inf, 0.0, 12.0),
    ],
)
def test_adaptive_scale_leaves_what_it_mimics_as_the_run_goes_on(
    scale: float, mimicked: float, done: float, wanted: float
) -> None:
    assert adaptive_scale(scale, mimicked, done) == pytest.approx(wanted)


def test_rescaling_equals_diffusers() -> None:
    guided, positive = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(1)).unbind()
    for at, share in enumerate([0.0, 0.7, 1.0]):
        wanted = rescale_noise_cfg(guided, positive, guidance_rescale=share)
        found = rescaled(guided, positive, torch.full((3,), share))
        torch.testing.assert_close(found[at], wanted[at])


def test_consistency_keeps_x_at_timestep_zero() -> None:
    assert consistency(torch.tensor([1.0]), torch.tensor([7.0]), 0).item() == 7.0


def test_consistency_is_the_clean_latent_at_timesteps_in_use() -> None:
    assert consistency(torch.tensor([1.0]), torch.tensor([7.0]), 139).item() == pytest.approx(1.0, abs=1e-5)
