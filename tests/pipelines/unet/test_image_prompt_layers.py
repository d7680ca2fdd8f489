"""Attention to pictures: as diffusers has it, on its rows alone, and projected once."""

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from pipelines.unet.gathering import Sample
from pipelines.unet.rows import ImageAdapter, ImagePrompt
from pipelines.unet.runner import UNetRunner
from pipelines.weights.family import Family
from tests.pipelines.unet.calling import alone, gather, noise, predict, row, sample


def shown(family: Family, unet: Any, each: Sample, tokens: Tensor, scale: float) -> Tensor:
    """What diffusers' code predicts for a sample that is shown a picture."""
    for processor in unet.attn_processors.values():
        if hasattr(processor, "to_k_ip"):
            processor.scale = [scale]
    return alone(family, unet, each, [tokens[None, None]])


def test_pictures_are_attended_to_as_diffusers_does_it(
    pocket_family: Family, diffusers_adapter: UNet2DConditionModel, adapter: ImageAdapter
) -> None:
    pictures = [noise(20, 16, 160), noise(21, 16, 160)]
    scales = [0.6, 1.0]
    samples = [
        sample(at, row(pocket_family, at, images=(ImagePrompt(adapter, tokens, scale),)))
        for at, (tokens, scale) in enumerate(zip(pictures, scales, strict=True))
    ]
    found = predict(pocket_family, [*samples, sample(9, row(pocket_family, 9, chunks=2))])
    for each, tokens, scale, answer in zip(samples, pictures, scales, found[:2], strict=True):
        wanted = shown(pocket_family, diffusers_adapter, each, tokens, scale)
        torch.testing.assert_close(answer, wanted, atol=2e-5, rtol=0)
        assert (
            answer - predict(pocket_family, [replace(each, row=replace(each.row, images=()))])[0]
        ).abs().max() > 1e-2


def test_rows_without_a_picture_and_those_of_scale_0_see_none(pocket_family: Family, adapter: ImageAdapter) -> None:
    samples = [sample(seed, row(pocket_family, seed)) for seed in (1, 2, 3)]
    before = predict(pocket_family, samples)
    for at, scale in ((1, 0.0), (2, 1.0)):
        prompt = ImagePrompt(adapter, noise(20, 16, 160), scale)
        samples[at] = replace(samples[at], row=replace(samples[at].row, images=(prompt,)))
    after = predict(pocket_family, samples)
    torch.testing.assert_close(after[:2], before[:2], atol=1e-6, rtol=0)
    assert (after[2] - before[2]).abs().max() > 1e-2


def test_each_picture_of_a_row_adds_its_part(pocket_family: Family, adapter: ImageAdapter) -> None:
    """Twice the same picture is once at the sum of the scales, which is not so if its tokens joined the text's."""
    prompt = ImagePrompt(adapter, noise(20, 16, 160), 0.5)
    twice, once = (
        predict(pocket_family, [sample(1, row(pocket_family, 1, images=images))])[0]
        for images in ((prompt, replace(prompt, scale=0.25)), (replace(prompt, scale=0.75),))
    )
    torch.testing.assert_close(twice, once, atol=1e-5, rtol=0)


def test_pictures_are_projected_once_for_all_steps_of_a_group(pocket_family: Family, adapter: ImageAdapter) -> None:
    def projections(runner: UNetRunner) -> int:
        before = projected.call_count
        runner.run(call)
        return projected.call_count - before

    samples = [sample(1, row(pocket_family, 1, images=(ImagePrompt(adapter, noise(20, 16, 160), 0.5),)))]
    with torch.inference_mode(), patch.object(ImageAdapter, "project", autospec=True, side_effect=ImageAdapter.project):
        projected: Any = ImageAdapter.project
        call, runner = gather(pocket_family, samples), UNetRunner(pocket_family.rows)
        assert [projections(runner) for _ in range(3)] == [1, 0, 0]
        assert projections(UNetRunner(pocket_family.rows)) == 1
