"""Guidance: small formulas against values worked out by hand."""

import pytest
import torch

from pipelines.denoising.guidance import classifier_free, clean_latent, consistency


def test_clean_latent_removes_the_predicted_noise() -> None:
    assert clean_latent(torch.tensor([5.0]), torch.tensor([2.0]), 1.5).item() == 2.0


@pytest.mark.parametrize(("scale", "wanted"), [(0.0, 1.0), (1.0, 3.0), (4.0, 9.0)])
def test_classifier_free_extrapolates_from_negative_through_positive(scale: float, wanted: float) -> None:
    assert classifier_free(torch.tensor([3.0]), torch.tensor([1.0]), scale).item() == wanted


def test_consistency_keeps_x_at_timestep_zero() -> None:
    assert consistency(torch.tensor([1.0]), torch.tensor([7.0]), 0).item() == 7.0


def test_consistency_is_the_clean_latent_at_timesteps_in_use() -> None:
    assert consistency(torch.tensor([1.0]), torch.tensor([7.0]), 139).item() == pytest.approx(1.0, abs=1e-5)
