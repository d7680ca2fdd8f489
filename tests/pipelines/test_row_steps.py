"""What drawing a spec costs, before anything of it is drawn."""

from typing import Any

import pytest
import torch

from pipelines.denoising.noise import SAMPLERS
from pipelines.denoising.schedules import sdxl_table
from pipelines.denoising.sigma_schedule import sigma_schedule
from pipelines.row_steps import NOT_DRAWN, row_steps_of
from pipelines.spec import Canvas, Guidance, SamplerName, Size, Spec, Start, Upscale, Vary
from tests.pipelines.denoising.driving import drive

SQUARE = Size(width=1024, height=1024)
GUIDED = Guidance(scale=4.0)


def spec(*pictures: Any, **given: Any) -> Spec:
    asked: dict[str, Any] = {"seeds": (1,), "steps": 8, "sampler": "euler", "schedule": "karras", "size": SQUARE}
    return Spec(pictures=pictures, **(asked | given))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_step_counts_as_often_as_its_sampler_asks_the_model(sampler: SamplerName) -> None:
    asked = spec(sampler=sampler, steps=7)
    run = sigma_schedule(asked, sdxl_table())
    evaluations = len(drive(SAMPLERS[sampler].make(torch.ones(1), run, lambda *_: torch.zeros(1)), lambda x, _: x)[1])
    assert row_steps_of(asked) == evaluations


def test_guidance_and_every_picture_cost_rows_of_their_own() -> None:
    assert row_steps_of(spec()) == 8
    assert row_steps_of(spec(guidance=GUIDED)) == 16
    assert row_steps_of(spec(guidance=GUIDED, seeds=(1, 2, 3))) == 48


def test_rows_count_by_their_pixels() -> None:
    assert row_steps_of(spec(size=Size(width=512, height=1024))) == 4
    assert row_steps_of(spec(Canvas(source="data:a", resolution=512), size=None)) == 2


def test_a_part_of_the_schedule_has_as_many_steps_as_the_whole() -> None:
    for begun in (Start(source="data:a", strength=0.5), Vary(source="data:a", strength=0.5)):
        asked = spec(begun, size=None)
        assert row_steps_of(asked) == sigma_schedule(asked, sdxl_table()).steps == 8


def test_an_enlarged_picture_costs_by_its_factor_up_to_what_is_drawn_over_at_all() -> None:
    def cost(factor: float) -> float:
        return row_steps_of(spec(Upscale(source="data:a", factor=factor), size=None))

    assert cost(1.5) == 8 * 1.5**2
    assert cost(4) == 8 * 2800**2 / 1024**2


def test_what_is_only_enlarged_costs_little_but_something() -> None:
    assert row_steps_of(spec(Upscale(source="data:a", factor=2), size=None, steps=0)) == NOT_DRAWN
