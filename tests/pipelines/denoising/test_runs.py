"""A spec's names lead to the levels and the sampler that they mean."""

from typing import Any

import pytest
import torch

from pipelines.denoising.runs import run_of, sampler_of
from pipelines.denoising.schedules import karras, lcm_table, normal, sdxl_table, sgm_uniform, tail
from pipelines.spec import Spec, Start
from tests.pipelines.denoising.driving import drive

HALF = (Start(source="stored:a", strength=0.5),)


def spec(**given: Any) -> Spec:
    return Spec(**{"seeds": (1,), "steps": 30, "sampler": "euler", "schedule": "karras", **given})


def test_a_schedule_is_run_whole() -> None:
    assert torch.equal(run_of(spec()).sigmas, karras(sdxl_table(), 30))


def test_from_a_picture_it_is_the_end_of_a_longer_one() -> None:
    run = run_of(spec(pictures=HALF))
    assert run.steps == 30
    assert run.table.timestep(float(run.sigmas[0])) == 412


def test_the_tail_has_a_rule_of_its_own() -> None:
    run = run_of(spec(schedule="tail", steps=8, pictures=HALF))
    assert torch.equal(run.sigmas, tail(sdxl_table(), 8, 0.5))


def test_lcm_knows_fifty_levels() -> None:
    run = run_of(spec(schedule="lcm", steps=8))
    assert len(run.table.sigmas) == 50
    assert torch.equal(run.sigmas, sgm_uniform(lcm_table(sdxl_table()), 8))


@pytest.mark.parametrize("sampler", ["uni_pc", "uni_pc_bh2"])
def test_uni_pc_leaves_the_lowest_level_out(sampler: str) -> None:
    run = run_of(spec(sampler=sampler, schedule="normal", steps=6))
    assert run.sigmas.tolist() == [*normal(sdxl_table(), 7)[:6].tolist(), 0]


def test_tcd_jumps_to_seven_tenths_of_the_next_timestep() -> None:
    run = run_of(spec(sampler="tcd", schedule="lcm", steps=4))
    reached: list[float] = []

    def clean(x: torch.Tensor, sigma: float) -> torch.Tensor:
        reached.append(float(x))
        return x * 0

    # without noise, and with a clean latent of 0, x shrinks to the share of sigma that the jump leaves
    drive(sampler_of(spec(sampler="tcd"), torch.ones(1), run, lambda *_: torch.zeros(1), 1), clean)
    timesteps = [run.table.timestep(sigma) for sigma in run.sigmas[:-1].tolist()]
    levels = sdxl_table().sigmas[[int(0.7 * timestep) for timestep in timesteps[1:]]]
    wanted = torch.cumprod(levels / run.sigmas[:-2], dim=0)
    assert reached[1:] == pytest.approx(wanted.tolist())


@pytest.mark.parametrize("sampler", ["dpmpp_2m_sde", "dpmpp_3m_sde", "dpmpp_sde"])
def test_the_path_of_an_sde_belongs_to_its_seed(sampler: str) -> None:
    run = run_of(spec(steps=6))

    def drawn(seed: int) -> torch.Tensor:
        x = torch.ones(4, 8, 8)
        return drive(sampler_of(spec(sampler=sampler), x, run, lambda *_: x, seed), lambda x, sigma: x / (1 + sigma))[0]

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.allclose(drawn(1), drawn(2), atol=1e-3)
