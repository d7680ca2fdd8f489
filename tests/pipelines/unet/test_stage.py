"""The stage of evaluations: unlike rows share a call, and no row's answer depends on its neighbours."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from pipelines.unet.guide import ControlImage, Evaluate, Guidance, Guide, SizeIds
from pipelines.unet.sharpening import sharpen
from pipelines.weights.control_lora import build_control
from pipelines.weights.family import Family
from tests.pipelines.unet.calling import SHAPE, TRUE, guide, noise, run, stage_of


@pytest.fixture(scope="module")
def controlled(pocket_family: Family) -> Guide:
    network = build_control(pocket_family.unet, pocket_family.catalogue.part("canny"))
    with torch.inference_mode():
        hint = network.controlnet_cond_embedding(noise(9, 1, 3, 128, 128).clamp(0, 1))[0]
    return replace(guide(pocket_family, 60), controls=(ControlImage(network, hint, weight=1.0, until=0.0),))


@pytest.fixture(scope="module")
def unlike(pocket_family: Family, controlled: Guide) -> list[Evaluate]:
    """Rows that differ in everything that may differ within a call."""
    return [
        guide(pocket_family, 10).evaluate(noise(1, *SHAPE) * 14, 14.6, 999),
        guide(pocket_family, 20, negative=True, scale=4.0).evaluate(noise(2, *SHAPE), 0.4, 139),
        guide(pocket_family, 30, chunks=3).evaluate(noise(3, *SHAPE) * 2, 1.6, 499),
        controlled.evaluate(noise(4, *SHAPE) * 5, 4.0, 749),
    ]


def test_unlike_rows_have_one_key_and_answer_as_they_do_alone(pocket_family: Family, unlike: list[Evaluate]) -> None:
    assert len({ask.key for ask in unlike}) == 1
    together = run(pocket_family, unlike)
    for ask, answer in zip(unlike, together, strict=True):
        torch.testing.assert_close(answer, run(pocket_family, [ask])[0], atol=1e-3, rtol=0)


def test_a_prompt_beside_a_longer_one_is_attended_to_whole_and_alone(pocket_family: Family) -> None:
    """What the short one is padded with is hidden, and nothing else is."""
    short, long = guide(pocket_family, 10), guide(pocket_family, 30, chunks=4)
    asks = [each.evaluate(noise(1, *SHAPE), 1.0, 300) for each in (short, long, short)]
    for ask, answer in zip(asks, run(pocket_family, asks), strict=True):
        torch.testing.assert_close(answer, run(pocket_family, [ask])[0], atol=2e-5, rtol=0)


def test_a_control_beside_a_longer_prompt_attends_to_its_own_whole_and_alone(
    pocket_family: Family, controlled: Guide
) -> None:
    asks = [each.evaluate(noise(1, *SHAPE) * 5, 4.0, 749) for each in (controlled, guide(pocket_family, 30, chunks=4))]
    found, _ = run(pocket_family, asks)
    torch.testing.assert_close(found, run(pocket_family, asks[:1])[0], atol=5e-5, rtol=0)


def test_each_ask_is_guided_its_own_way(pocket_family: Family) -> None:
    plain = guide(pocket_family, 10)
    led = guide(pocket_family, 20, negative=True)
    asks = [
        each.evaluate(noise(seed, *SHAPE) * 2, 1.6, 499)
        for seed, each in enumerate(
            [
                plain,
                replace(led, guidance=Guidance(4.0)),
                replace(led, guidance=Guidance(9.0, mimicked=7.0, sharpness=30.0)),
                plain,
                replace(led, guidance=Guidance(4.0, rescale=0.7)),
            ]
        )
    ]
    for ask, answer in zip(asks, run(pocket_family, asks), strict=True):
        torch.testing.assert_close(answer, run(pocket_family, [ask])[0], atol=1e-4, rtol=0)


def test_only_who_asks_for_sharpness_is_filtered(pocket_family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, led = guide(pocket_family, 10), guide(pocket_family, 20, negative=True)
    soft, sharp = (replace(led, guidance=Guidance(4.0, sharpness=sharpness)) for sharpness in (0.0, 30.0))
    filtered: list[int] = []

    def counted(eps: Tensor, clean: Tensor, shares: Tensor) -> Tensor:
        filtered.append(len(eps))
        return sharpen(eps, clean, shares)

    monkeypatch.setattr("pipelines.unet.stage.sharpen", counted)
    for guides in ([plain, sharp, soft, sharp], [sharp, sharp], [soft, plain]):
        run(pocket_family, [each.evaluate(noise(1, *SHAPE) * 2, 1.6, 499) for each in guides])
    assert filtered == [2, 2]


def test_an_answer_that_is_not_finite_is_told_and_no_other(pocket_family: Family) -> None:
    spoilt = noise(1, *SHAPE)
    spoilt[2, 3, 4] = float("nan")
    led = guide(pocket_family, 5, negative=True, scale=3.0)
    with torch.inference_mode():
        answers = stage_of(pocket_family).run([led.evaluate(x, 1.0, 300) for x in (noise(1, *SHAPE), spoilt)])
    assert answers.largest is not None
    assert answers.largest.isfinite().tolist() == [True, False]
    assert float(answers.largest[0]) == float(answers.values[0].abs().max())


def test_sizes_reach_a_bfloat16_unet_as_they_were_said(pocket_family: Family) -> None:
    """Its own dtype would make 820 of 819, the height that a negative prompt is told at 1024."""
    unet: Any = deepcopy(pocket_family.unet).bfloat16()
    seen: list[Tensor] = []
    unet.add_time_proj.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    said = torch.tensor([819.0, 921, 0, 0, 1024, 1152])
    sized = replace(guide(pocket_family, 5), unet=unet, sizes=SizeIds(said, said, said))
    (answer,) = run(pocket_family, [sized.evaluate(noise(1, *SHAPE), 1.0, 300)])
    assert answer.isfinite().all()
    assert seen[0].flatten().tolist() == said.tolist()


def test_prompts_are_told_sizes_of_their_own_early_on(pocket_family: Family) -> None:
    bold = SizeIds(TRUE, positive=TRUE * 1.5, negative=TRUE * 0.8, emphasised_above=699.3)
    led = replace(guide(pocket_family, 5, negative=True, scale=3.0), sizes=bold)
    told = {}
    for timestep in (999, 700, 699, 0):
        asked = led.evaluate(noise(1, *SHAPE), 1.0, timestep)
        assert asked.negative is not None
        told[timestep] = asked.positive.size_ids, asked.negative.size_ids
    assert told[999] == told[700] == (bold.positive, bold.negative)
    assert told[699] == told[0] == (TRUE, TRUE)


def test_other_sizes_have_other_keys(pocket_family: Family) -> None:
    one = guide(pocket_family, 1).evaluate(noise(1, 4, 16, 16), 1.0, 300)
    assert one.key != replace(one, x=noise(1, 4, 16, 24)).key


def test_guidance_takes_two_rows_and_acts(pocket_family: Family) -> None:
    led = guide(pocket_family, 5, negative=True, scale=1.5)
    weak, strong = (each.evaluate(noise(1, *SHAPE), 1.0, 300) for each in (led, replace(led, guidance=Guidance(6.0))))
    assert weak.rows == 2
    assert not torch.allclose(run(pocket_family, [weak])[0], run(pocket_family, [strong])[0], atol=1e-3)


def controlled_with(family: Family, controlled: Guide, *weights: float) -> Tensor:
    images = tuple(replace(controlled.controls[0], weight=weight) for weight in weights)
    led = replace(controlled, controls=images)
    return run(family, [led.evaluate(noise(1, *SHAPE) * 4, 4.0, 749)])[0]


def test_a_control_acts_by_its_weight(pocket_family: Family, controlled: Guide) -> None:
    off, none, weak, whole = (
        controlled_with(pocket_family, controlled, *weights) for weights in ((0.0,), (), (0.3,), (1.0,))
    )
    torch.testing.assert_close(off, none, atol=1e-5, rtol=0)
    assert (whole - none).abs().mean() > (weak - none).abs().mean() > 1e-3


def test_two_controls_add_up(pocket_family: Family, controlled: Guide) -> None:
    two, one = (controlled_with(pocket_family, controlled, *weights) for weights in ((0.25, 0.75), (1.0,)))
    torch.testing.assert_close(two, one, atol=1e-4, rtol=0)


def test_a_control_rests_below_its_last_sigma(pocket_family: Family, controlled: Guide) -> None:
    def answer(sigma: float, *images: ControlImage) -> Tensor:
        led = replace(controlled, controls=images)
        return run(pocket_family, [led.evaluate(noise(1, *SHAPE), sigma, 560)])[0]

    image = replace(controlled.controls[0], until=2.0)
    torch.testing.assert_close(answer(1.9, image), answer(1.9))
    assert not torch.allclose(answer(2.0, image), answer(2.0), atol=1e-3)


def test_equal_groups_share_a_call_whichever_modules_hold_the_weights(pocket_family: Family) -> None:
    plain = guide(pocket_family, 10)
    one, other, foreign, none = (
        replace(plain, group=group).evaluate(noise(1, *SHAPE), 1.0, 400).key for group in ("a", "a", "b", None)
    )
    assert one == other
    assert len({one, foreign, none}) == 3
