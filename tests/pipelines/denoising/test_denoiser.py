"""The denoiser: unlike rows share a call, and no row's answer depends on its neighbours."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from pipelines.conditioning import Conditioning
from pipelines.denoising.caps import RowCaps
from pipelines.denoising.denoiser import ControlBranch, Denoiser, Evaluate, Guidance, Guide, SizeIds
from pipelines.weights.control_lora import build_control
from pipelines.weights.family import Family

SHAPE = (4, 16, 16)
TRUE = torch.tensor([128.0, 128, 0, 0, 128, 128])


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def conditioning(family: Family, seed: int, chunks: int = 1) -> Conditioning:
    config = family.unet.config
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    return Conditioning(noise(seed, 77 * chunks, config.cross_attention_dim), noise(seed + 1, pooled))


def guide(family: Family, seed: int, *, chunks: int = 1, negative: bool = False, scale: float = 1.0) -> Guide:
    return Guide(
        unet=family.unet,
        positive=conditioning(family, seed, chunks),
        negative=conditioning(family, seed + 50) if negative else None,
        guidance=Guidance(scale),
        sizes=SizeIds(TRUE, TRUE, TRUE),
    )


def run(asks: Sequence[Evaluate]) -> list[Tensor]:
    with torch.inference_mode():
        return Denoiser(RowCaps(16)).run(asks)


@pytest.fixture(scope="module")
def controlled(pocket_family: Family) -> Guide:
    network = build_control(pocket_family.unet, pocket_family.catalogue.control("canny"))
    with torch.inference_mode():
        hint = network.controlnet_cond_embedding(noise(9, 1, 3, 128, 128).clamp(0, 1))[0]
    return replace(guide(pocket_family, 60), controls=(ControlBranch(network, hint, weight=1.0, until=0.0),))


@pytest.fixture(scope="module")
def unlike(pocket_family: Family, controlled: Guide) -> list[Evaluate]:
    """Rows that differ in everything that may differ within a call."""
    return [
        Evaluate(noise(1, *SHAPE) * 14, 14.6, 999, guide(pocket_family, 10)),
        Evaluate(noise(2, *SHAPE), 0.4, 139, guide(pocket_family, 20, negative=True, scale=4.0)),
        Evaluate(noise(3, *SHAPE) * 2, 1.6, 499, guide(pocket_family, 30, chunks=3)),
        Evaluate(noise(4, *SHAPE) * 5, 4.0, 749, controlled),
    ]


def test_unlike_rows_have_one_key_and_answer_as_they_do_alone(unlike: list[Evaluate]) -> None:
    assert len({ask.key for ask in unlike}) == 1
    together = run(unlike)
    for ask, answer in zip(unlike, together, strict=True):
        torch.testing.assert_close(answer, run([ask])[0], atol=1e-3, rtol=0)


def test_sizes_reach_a_bfloat16_unet_as_they_were_said(pocket_family: Family) -> None:
    """Its own dtype would make 820 of 819, the height that a negative prompt is told at 1024."""
    unet: Any = deepcopy(pocket_family.unet).bfloat16()
    seen: list[Tensor] = []
    unet.add_time_proj.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    said = torch.tensor([819.0, 921, 0, 0, 1024, 1152])
    sized = replace(guide(pocket_family, 5), unet=unet, sizes=SizeIds(said, said, said))
    (answer,) = run([Evaluate(noise(1, *SHAPE), 1.0, 300, sized)])
    assert answer.isfinite().all()
    assert seen[0].flatten().tolist() == said.tolist()


def test_other_sizes_have_other_keys(pocket_family: Family) -> None:
    one = Evaluate(noise(1, 4, 16, 16), 1.0, 300, guide(pocket_family, 1))
    assert one.key != replace(one, x=noise(1, 4, 16, 24)).key


def test_guidance_takes_two_rows_and_acts(pocket_family: Family) -> None:
    weak = Evaluate(noise(1, *SHAPE), 1.0, 300, guide(pocket_family, 5, negative=True, scale=1.5))
    strong = replace(weak, guide=replace(weak.guide, guidance=Guidance(6.0)))
    assert weak.rows == 2
    assert not torch.allclose(run([weak])[0], run([strong])[0], atol=1e-3)


def test_a_control_acts_by_its_weight(controlled: Guide) -> None:
    def answer(weight: float) -> Tensor:
        branch = replace(controlled.controls[0], weight=weight)
        return run([Evaluate(noise(1, *SHAPE) * 4, 4.0, 749, replace(controlled, controls=(branch,)))])[0]

    none = run([Evaluate(noise(1, *SHAPE) * 4, 4.0, 749, replace(controlled, controls=()))])[0]
    torch.testing.assert_close(answer(0.0), none, atol=1e-5, rtol=0)
    assert (answer(1.0) - none).abs().mean() > (answer(0.3) - none).abs().mean() > 1e-3


def test_a_control_rests_below_its_last_sigma(controlled: Guide) -> None:
    branch = replace(controlled.controls[0], until=2.0)
    late = Evaluate(noise(1, *SHAPE), 1.9, 560, replace(controlled, controls=(branch,)))
    none = replace(late, guide=replace(controlled, controls=()))
    torch.testing.assert_close(run([late])[0], run([none])[0])


def test_two_controls_add_up(controlled: Guide) -> None:
    def answer(*weights: float) -> Tensor:
        branches = tuple(replace(controlled.controls[0], weight=weight) for weight in weights)
        return run([Evaluate(noise(1, *SHAPE) * 4, 4.0, 749, replace(controlled, controls=branches))])[0]

    torch.testing.assert_close(answer(0.25, 0.75), answer(1.0), atol=1e-4, rtol=0)


def test_equal_groups_share_a_call_whichever_modules_hold_the_weights(pocket_family: Family) -> None:
    plain = Evaluate(noise(1, *SHAPE), 1.0, 400, guide(pocket_family, 10))
    one, other, foreign = (replace(plain, guide=replace(plain.guide, group=group)) for group in ("a", "a", "b"))
    assert one.key == other.key
    assert len({one.key, foreign.key, plain.key}) == 3
