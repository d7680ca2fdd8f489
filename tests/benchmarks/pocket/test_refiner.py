"""When the refiner takes over, and what it is told."""

from typing import Any

import torch
from torch import Tensor

from benchmarks.pocket.acceptance.refiner import Joint, refiner_size_ids
from models.pocket import shapes
from pipelines.denoising.schedules import karras, sdxl_table

STEPS, BY_THE_UNET = 30, 25  # round(0.8 x 30) is step 24, which is the last of the UNet's


class Called:
    """Answers nothing and remembers what it was given."""

    def __init__(self) -> None:
        self.given: list[tuple[Tensor, dict[str, Any]]] = []

    def __call__(self, x: Tensor, timesteps: Tensor, context: Tensor, **given: Any) -> tuple[Tensor]:
        self.given.append((context, given["added_cond_kwargs"]))
        return (torch.zeros_like(x),)


def run(unet: Called, refiner: Called) -> None:
    table = sdxl_table()
    joint = Joint(unet, refiner, STEPS)
    x, context = torch.zeros(1, 4, 8, 16), torch.arange(shapes.FIRST_WIDTH + shapes.SECOND_WIDTH).float()
    added = {"text_embeds": torch.ones(1, 5), "time_ids": torch.zeros(1, 6)}
    for sigma in karras(table, STEPS)[:-1]:
        at = torch.full((1,), table.timestep(float(sigma)))
        joint(x, at, context[None, None], added_cond_kwargs=added)


def test_the_refiner_takes_over_after_the_step_of_fooocus_switch() -> None:
    unet, refiner = Called(), Called()
    run(unet, refiner)
    assert len(unet.given) == BY_THE_UNET
    assert len(refiner.given) == STEPS - BY_THE_UNET


def test_the_refiner_reads_the_second_text_encoder_and_is_told_size_and_score() -> None:
    refiner = Called()
    run(Called(), refiner)
    context, added = refiner.given[0]
    assert context[0, 0].tolist() == list(range(shapes.FIRST_WIDTH, shapes.FIRST_WIDTH + shapes.SECOND_WIDTH))
    assert added["time_ids"].tolist() == [[64, 128, 0, 0, 6.0]]
    assert added["text_embeds"].tolist() == [[1] * 5]


def test_the_refiner_is_told_the_size_and_a_score() -> None:
    assert refiner_size_ids(64, 128, 2).tolist() == [[64, 128, 0, 0, 6.0]] * 2
