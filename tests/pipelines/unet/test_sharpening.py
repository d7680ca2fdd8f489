"""The sharpness filter: its formula pixel by pixel, and what it must leave alone."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from pipelines.unet.sharpening import _at_once, _normalised, filtered_share, joint_bilateral, sharpen


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def naive(signal: Tensor, guide: Tensor) -> Tensor:
    """The same for one sample (c, h, w), neighbour by neighbour."""
    guide = (guide - guide.mean()) / (guide.std() + 1e-5)
    wide_signal, wide_guide = (pad(each[None], (6, 6, 6, 6), mode="reflect")[0] for each in (signal, guide))
    line = torch.tensor([torch.exp(torch.tensor(-0.5 * (offset / 3) ** 2)) for offset in range(-6, 7)])
    line = line / line.sum()
    result = torch.zeros_like(signal)
    for y in range(signal.shape[1]):
        for x in range(signal.shape[2]):
            near = wide_guide[:, y : y + 13, x : x + 13]
            distance = (near - guide[:, y, x, None, None]).abs().sum(dim=0)
            weight = torch.exp(-0.5 * distance**2 / 9) * line[:, None] * line[None, :]
            result[:, y, x] = (wide_signal[:, y : y + 13, x : x + 13] * weight).sum(dim=(1, 2)) / weight.sum()
    return result


def test_the_filter_equals_its_formula_pixel_by_pixel() -> None:
    signal, guide = normal(1, 2, 4, 16, 20), normal(2, 2, 4, 16, 20) * 3 + 1
    filtered = joint_bilateral(signal, guide)
    for at in range(2):
        torch.testing.assert_close(filtered[at], naive(signal[at], guide[at]), atol=1e-6, rtol=1e-5)


def test_both_forms_are_equal() -> None:
    """The one of a GPU unfolds all neighbours, the one of a CPU takes them line by line."""
    signal, guide = normal(1, 2, 4, 16, 20), normal(2, 2, 4, 16, 20) * 3 + 1
    found = _at_once(signal, _normalised(guide))
    torch.testing.assert_close(found, joint_bilateral(signal, guide), atol=1e-6, rtol=0)


def test_many_latents_are_filtered_as_each_is_alone() -> None:
    signal, guide = normal(1, 5, 4, 48, 48), normal(2, 5, 4, 48, 48)
    alone = [joint_bilateral(signal[at : at + 1], guide[at : at + 1]) for at in range(5)]
    torch.testing.assert_close(joint_bilateral(signal, guide), torch.cat(alone), atol=1e-6, rtol=0)


def test_a_constant_stays_as_it_is() -> None:
    signal = torch.full((1, 4, 16, 16), 2.5)
    torch.testing.assert_close(joint_bilateral(signal, normal(1, 1, 4, 16, 16)), signal)


def test_the_filter_is_linear_in_its_signal() -> None:
    one, other, guide = (normal(seed, 1, 4, 16, 16) for seed in (1, 2, 3))
    together = joint_bilateral(2 * one - other, guide)
    torch.testing.assert_close(together, 2 * joint_bilateral(one, guide) - joint_bilateral(other, guide))


@pytest.mark.parametrize("dims", [(2,), (3,), (2, 3)])
def test_a_mirrored_picture_is_filtered_in_the_mirror(dims: tuple[int, ...]) -> None:
    signal, guide = normal(1, 1, 4, 16, 16), normal(2, 1, 4, 16, 16)
    torch.testing.assert_close(
        joint_bilateral(signal.flip(dims), guide.flip(dims)), joint_bilateral(signal, guide).flip(dims)
    )


def test_an_edge_of_the_guide_keeps_its_two_sides_apart() -> None:
    guide = torch.zeros(1, 4, 16, 16)
    guide[..., 8:] = 100
    signal = normal(1, 1, 4, 16, 16)
    other = signal.clone()
    other[..., 8:] = 0
    blurred = joint_bilateral(signal, torch.ones_like(guide)) - joint_bilateral(other, torch.ones_like(guide))
    kept = joint_bilateral(signal, guide) - joint_bilateral(other, guide)
    assert kept[..., 7].abs().max() < blurred[..., 7].abs().max() / 3


@pytest.mark.parametrize(("sharpness", "done", "share"), [(2.0, 1.0, 0.002), (30.0, 0.5, 0.015), (0.0, 1.0, 0.0)])
def test_the_share_of_the_filtered_noise_grows_with_sharpness_and_progress(
    sharpness: float, done: float, share: float
) -> None:
    eps, guide = normal(1, 2, 4, 16, 16), normal(2, 2, 4, 16, 16)
    found = sharpen(eps, guide, torch.tensor([filtered_share(sharpness, done), filtered_share(0.0, done)]))
    wanted = share * joint_bilateral(eps, guide) + (1 - share) * eps
    torch.testing.assert_close(found[0], wanted[0])
    assert torch.equal(found[1], eps[1])
