"""A spec's names lead to the levels that they mean."""

from typing import Any

import pytest
import torch

from pipelines.denoising.schedules import karras, lcm_table, normal, sdxl_table, sgm_uniform, tail
from pipelines.denoising.sigma_schedule import SigmaSchedule, sigma_schedule
from pipelines.spec import Spec, Start, Upscale, Vary

HALF = (Start(source="stored:a", strength=0.5),)


def spec(**given: Any) -> Spec:
    return Spec(**{"seeds": (1,), "steps": 30, "sampler": "euler", "schedule": "karras", **given})


def test_a_schedule_is_run_whole() -> None:
    assert torch.equal(sigma_schedule(spec()).sigmas, karras(sdxl_table(), 30))


def test_from_a_picture_it_is_the_end_of_a_longer_one() -> None:
    run = sigma_schedule(spec(pictures=HALF))
    assert run.steps == 30
    assert run.table.timestep(float(run.sigmas[0])) == 412


@pytest.mark.parametrize(
    ("begun", "steps", "first", "timestep"),
    [  # the vectors of fooocus-facts 4.4
        (Vary(source="", strength=0.5), 30, 1.2124, 412),
        (Vary(source="", strength=0.85), 30, 7.7548, 886),
        (Upscale(source="", factor=2), 18, 0.5690, 199),
        (Upscale(source="", factor=1.5), 36, 0.5947, 210),
    ],
    ids=str,
)
def test_varying_and_enlarging_begin_where_fooocus_does(
    begun: Vary | Upscale, steps: int, first: float, timestep: int
) -> None:
    run = sigma_schedule(spec(steps=steps, pictures=(begun,)))
    assert run.steps == steps
    assert float(run.sigmas[0]) == pytest.approx(first, abs=1e-4)
    assert run.table.timestep(float(run.sigmas[0])) == timestep


def test_the_tail_has_a_rule_of_its_own() -> None:
    run = sigma_schedule(spec(schedule="tail", steps=8, pictures=HALF))
    assert torch.equal(run.sigmas, tail(sdxl_table(), 8, 0.5))


def test_lcm_knows_fifty_levels() -> None:
    run = sigma_schedule(spec(schedule="lcm", steps=8))
    assert len(run.table.sigmas) == 50
    assert torch.equal(run.sigmas, sgm_uniform(lcm_table(sdxl_table()), 8))


@pytest.mark.parametrize("sampler", ["uni_pc", "uni_pc_bh2"])
def test_uni_pc_leaves_the_lowest_level_out(sampler: str) -> None:
    run = sigma_schedule(spec(sampler=sampler, schedule="normal", steps=6))
    assert run.sigmas.tolist() == [*normal(sdxl_table(), 7)[:6].tolist(), 0]


def test_steps_begin_in_their_order() -> None:
    """Evaluations between two levels, of samplers that make two a step, belong to the step that has begun."""
    run = SigmaSchedule(sdxl_table(), torch.tensor([14.0, 7.0, 3.0, 0.0]))
    assert [run.begun(sigma) for sigma in (14.0, 9.0, 7.0, 6.9, 3.0, 1.0)] == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(("given", "above"), [({}, 1.0), ({"pictures": HALF}, 0.0)])
def test_a_run_from_the_top_level_begins_with_the_deviation_of_data_too(given: dict[str, Any], above: float) -> None:
    run = sigma_schedule(spec(**given))
    assert run.first_deviation == pytest.approx((above + float(run.sigmas[0]) ** 2) ** 0.5)
