"""Schedules equal the published numbers of the modes that use them."""

import pytest
import torch

from pipelines.denoising.schedules import NoiseTable, lcm_table, sdxl_table, sgm_uniform, tail


@pytest.fixture(scope="module")
def table() -> NoiseTable:
    return sdxl_table()


def timesteps(table: NoiseTable, sigmas: torch.Tensor) -> list[int]:
    return [table.timestep(sigma) for sigma in sigmas[:-1].tolist()]


def test_table_spans_sdxl_levels(table: NoiseTable) -> None:
    assert table.sigma_min == pytest.approx(0.0291672, abs=1e-6)
    assert table.sigma_max == pytest.approx(14.6146412, abs=1e-5)


def test_lightning_schedule(table: NoiseTable) -> None:
    sigmas = sgm_uniform(table, 4)
    assert sigmas.tolist() == pytest.approx([14.6146, 4.0861, 1.6156, 0.6951, 0], abs=1e-4)
    assert timesteps(table, sigmas) == [999, 749, 499, 250]


def test_lcm_schedule(table: NoiseTable) -> None:
    distilled = lcm_table(table)
    sigmas = sgm_uniform(distilled, 8)
    wanted = [14.6146, 7.3918, 4.1708, 2.5629, 1.6679, 1.1139, 0.7325, 0.4367, 0]
    assert sigmas.tolist() == pytest.approx(wanted, abs=1e-4)
    assert timesteps(distilled, sigmas) == [999, 879, 759, 639, 499, 379, 259, 139]


@pytest.mark.parametrize(("strength", "first"), [(1.0, 999), (0.95, 949), (0.6, 599), (0.3, 300), (0.05, 50)])
def test_tail_starts_where_strength_says(table: NoiseTable, strength: float, first: int) -> None:
    assert timesteps(table, tail(table, 8, strength))[0] == first


@pytest.mark.parametrize("strength", [0.05, 0.3, 1.0])
def test_tail_spends_every_step_on_what_remains(table: NoiseTable, strength: float) -> None:
    sigmas = tail(table, 8, strength)
    assert len(sigmas) == 9
    assert sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()


def test_sigma_and_timestep_are_inverse_on_the_table(table: NoiseTable) -> None:
    for timestep in range(0, 1000, 37):
        assert table.timestep(float(table.sigma(torch.tensor(timestep)))) == timestep
