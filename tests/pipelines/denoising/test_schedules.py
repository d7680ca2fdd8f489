"""Schedules equal the published numbers of the modes that use them."""

import pytest
import torch

from pipelines.denoising.schedules import (
    ALIGNED,
    SCHEDULES,
    NoiseTable,
    Schedule,
    align_your_steps,
    ddim_uniform,
    exponential,
    karras,
    lcm_table,
    normal,
    partial,
    sdxl_table,
    sgm_uniform,
    simple,
    tail,
    turbo,
    without_lowest,
)


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


def test_speed_schedule(table: NoiseTable) -> None:
    wanted = """14.6146 12.6606 10.9349 9.4149 8.0797 6.9102 5.889 4.9999 4.2284 3.5613 2.9866 2.4932 2.0714 1.7124
        1.408 1.1513 0.9357 0.7558
        0.6063 0.4829 0.3817 0.2993 0.2326 0.1791 0.1365 0.1029 0.0766 0.0564 0.0409 0.0292 0"""
    asked = (
        """999 975 949 923 894 863 830 795 757 716 672 624 572 517 458 397 334 273 214 162 117 80 53 33 20 11 6 3 1 0"""
    )
    sigmas = karras(table, 30)
    assert sigmas.tolist() == pytest.approx([float(each) for each in wanted.split()], abs=6e-5)
    assert timesteps(table, sigmas) == [int(each) for each in asked.split()]


def test_hyper_sd_schedule(table: NoiseTable) -> None:
    assert timesteps(table, karras(table, 4)) == [999, 687, 146, 0]


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        (normal, [999, 666, 333, 0]),
        (sgm_uniform, [999, 749, 499, 250]),
        (simple, [999, 749, 499, 249]),
        (ddim_uniform, [751, 501, 251, 1]),
        (turbo, [999, 899, 799, 699]),
    ],
)
def test_timesteps_of_four_steps(table: NoiseTable, schedule: Schedule, wanted: list[int]) -> None:
    assert timesteps(table, schedule(table, 4)) == wanted


def test_ddim_uniform_takes_one_step_more_where_the_steps_do_not_divide(table: NoiseTable) -> None:
    assert timesteps(table, ddim_uniform(table, 30))[-2:] == [34, 1]
    assert len(ddim_uniform(table, 30)) == 32


def test_exponential_is_geometric(table: NoiseTable) -> None:
    sigmas = exponential(table, 5)[:-1]
    assert (sigmas[0].item(), sigmas[-1].item()) == pytest.approx((table.sigma_max, table.sigma_min))
    ratios = sigmas[1:] / sigmas[:-1]
    assert ratios.tolist() == pytest.approx([ratios[0].item()] * 4)


def test_align_your_steps_gives_its_published_levels_for_ten_steps(table: NoiseTable) -> None:
    sigmas = align_your_steps(table, 10)
    assert sigmas.tolist() == pytest.approx([*ALIGNED[:10], 0])


def test_align_your_steps_goes_halfway_in_log_sigma_for_twenty(table: NoiseTable) -> None:
    sigmas = align_your_steps(table, 20)
    assert sigmas[::2].tolist() == pytest.approx([*ALIGNED[:10], 0])
    assert sigmas[1].item() == pytest.approx((ALIGNED[0] * ALIGNED[1]) ** 0.5)


def test_turbo_has_ten_levels(table: NoiseTable) -> None:
    assert timesteps(table, turbo(table, 10))[-1] == 99
    with pytest.raises(ValueError, match="10 levels"):
        turbo(table, 11)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_every_schedule_descends_to_zero(table: NoiseTable, name: str, steps: int) -> None:
    sigmas = SCHEDULES[name](table, steps)
    assert len(sigmas) == steps + 1
    assert sigmas.dtype == torch.float32
    assert sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()


@pytest.mark.parametrize(
    ("steps", "denoise", "schedule", "first_sigma", "first_timestep"),
    [
        (30, 0.5, karras, 1.2124, 412),
        (30, 0.85, karras, 7.7548, 886),
        (18, 0.382, karras, 0.5690, 199),
        (36, 0.382, karras, 0.5947, 210),
        (8, 0.85, karras, 8.5600, 905),
    ],
)
def test_a_partial_run_takes_all_its_steps_from_the_end_of_a_longer_one(
    table: NoiseTable, steps: int, denoise: float, schedule: Schedule, first_sigma: float, first_timestep: int
) -> None:
    sigmas = partial(schedule, table, steps, denoise)
    assert len(sigmas) == steps + 1
    assert sigmas[0].item() == pytest.approx(first_sigma, abs=6e-5)
    assert timesteps(table, sigmas)[0] == first_timestep


@pytest.mark.parametrize("denoise", [0.99995, 1.0])
def test_a_run_of_nearly_everything_is_whole(table: NoiseTable, denoise: float) -> None:
    assert torch.equal(partial(karras, table, 30, denoise), karras(table, 30))


def test_the_lowest_level_is_left_out(table: NoiseTable) -> None:
    assert without_lowest(karras)(table, 5).tolist() == [*karras(table, 6)[:5].tolist(), 0]


def test_a_clean_latent_has_the_first_timestep() -> None:
    assert sdxl_table().timestep(0.0) == 0
    assert lcm_table(sdxl_table()).timestep(0.0) == 19
