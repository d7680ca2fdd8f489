"""Tiles: they lie as Fooocus' do, and their shares make one picture."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.stages.tiles import bands


@given(st.integers(1, 400), st.integers(8, 90), st.integers(1, 7), st.sampled_from([1, 4, 8]))
def test_bands_cover_a_side_with_shares_that_sum_to_one(length: int, tile: int, overlap: int, grow: int) -> None:
    found = bands(length, tile, overlap, grow)
    total = torch.zeros(length * grow)
    for band in found:
        assert band.stop - band.start == min(tile, length)
        total[band.made] += band.shares
    assert torch.allclose(total, torch.ones(length * grow), atol=1e-6)
    assert all(after.start <= before.stop - overlap for before, after in pairwise(found))
    assert len(found) <= 1 + -(-length // (tile - overlap))


def test_a_side_that_is_no_longer_than_a_tile_is_one_band_that_counts_whole() -> None:
    (band,) = bands(64, 64, 16, 8)
    assert (band.start, band.stop, band.made) == (0, 64, slice(0, 512))
    assert torch.equal(band.shares, torch.ones(512))


def test_shares_of_two_tiles_equal_a_naive_mean_by_linear_ramps() -> None:
    """fooocus-facts 8.1: ramps (k + 1) / f on all sides, sum of weighted tiles over the sum of weights."""
    length, tile, overlap = 20, 12, 4
    values = np.random.default_rng(0).random((2, tile))
    ramp = np.ones(tile)
    for k in range(overlap):
        ramp[k] *= (k + 1) / overlap
        ramp[-1 - k] *= (k + 1) / overlap
    above, below = np.zeros(length), np.zeros(length)
    for start, made in zip((0, 8), values, strict=True):
        above[start : start + tile] += ramp * made
        below[start : start + tile] += ramp
    mixed = torch.zeros(length)
    for band, made in zip(bands(length, tile, overlap, 1), values, strict=True):
        mixed[band.made] += band.shares * torch.tensor(made)
    assert mixed.numpy() == pytest.approx(above / below)
