"""The Brownian tree: independent normal increments of one path, however it is read."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from pipelines.denoising.brownian import LEAVES, BrownianTree
from pipelines.denoising.schedules import karras, sdxl_table

SHAPE = (4, 96, 96)
LOW, HIGH = 0.03, 14.6


def increments(levels: list[float], seed: int = 1) -> Tensor:
    tree = BrownianTree(seed, SHAPE, levels[-1], levels[0])
    return torch.stack([tree(sigma, after).flatten() for sigma, after in pairwise(levels)])


def karras_levels(steps: int) -> list[float]:
    return karras(sdxl_table(), steps)[:-1].tolist()


def test_increments_are_standard_and_independent() -> None:
    found = increments(karras_levels(60))
    torch.testing.assert_close(found.std(dim=1), torch.ones(59), atol=0.03, rtol=0)
    torch.testing.assert_close(found.mean(dim=1), torch.zeros(59), atol=0.03, rtol=0)
    correlations = torch.corrcoef(found) - torch.eye(59)
    assert correlations.abs().max() < 0.035


def test_closer_levels_refine_the_same_path() -> None:
    coarse = increments([14.6, 7.0, 3.0, 0.03])
    fine = increments([14.6, 10.0, 7.0, 5.0, 4.0, 3.0, 1.0, 0.03])
    summed = (fine[0] * (14.6 - 10.0) ** 0.5 + fine[1] * (10.0 - 7.0) ** 0.5) / (14.6 - 7.0) ** 0.5
    assert float(torch.corrcoef(torch.stack([coarse[0], summed]))[0, 1]) > 0.98


def test_a_step_is_the_sum_of_its_halves() -> None:
    tree = BrownianTree(1, SHAPE, LOW, HIGH)
    whole, first, second = tree(9.0, 4.0), tree(9.0, 6.0), tree(6.0, 4.0)
    torch.testing.assert_close(whole * 5**0.5, first * 3**0.5 + second * 2**0.5, atol=1e-5, rtol=1e-5)


def test_levels_within_one_leaf_are_independent_too() -> None:
    leaf = (HIGH - LOW) / LEAVES
    found = increments([HIGH, 5.0, *[5.0 - leaf * share for share in (0.1, 0.2, 0.3, 0.4)], LOW])[1:-1]
    torch.testing.assert_close(found.std(dim=1), torch.ones(4), atol=0.03, rtol=0)
    assert (torch.corrcoef(found) - torch.eye(4)).abs().max() < 0.03


def test_a_seed_fixes_the_path() -> None:
    assert torch.equal(increments(karras_levels(5)), increments(karras_levels(5)))
    assert abs(float(torch.corrcoef(torch.stack([increments([9.0, 1.0], seed)[0] for seed in (1, 2)]))[0, 1])) < 0.03


def test_seeds_use_all_their_bits() -> None:
    one, other = (increments([9.0, 1.0], seed) for seed in (5, 5 + 2**62))
    assert not torch.equal(one, other)


@pytest.mark.parametrize(("sigma", "after"), [(15.0, 2.0), (9.0, 0.01), (9.0, 0.0)])
def test_the_path_cannot_be_left(sigma: float, after: float) -> None:
    with pytest.raises(ValueError, match="can be read from"):
        BrownianTree(1, SHAPE, LOW, HIGH)(sigma, after)


def test_what_has_been_passed_is_forgotten() -> None:
    tree = BrownianTree(1, SHAPE, LOW, HIGH)
    tree(9.0, 4.0)
    tree(4.0, 1.0)
    with pytest.raises(ValueError, match=r"to 4\.0"):
        tree(8.0, 3.0)


def test_a_path_of_one_level_can_be_made() -> None:
    BrownianTree(1, SHAPE, HIGH, HIGH)
