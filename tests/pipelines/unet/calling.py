"""Rows and evaluations made of noise, and the stage that answers them with the pocket family's UNet."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from pipelines.conditioning import Conditioning
from pipelines.device import PlainDevice
from pipelines.unet.branches import RowLora
from pipelines.unet.gathering import Gatherer, Sample, UNetCall
from pipelines.unet.guide import Evaluate, Guidance, Guide, SizeIds
from pipelines.unet.row_caps import RowCaps
from pipelines.unet.rows import Row
from pipelines.unet.runner import UNetRunner
from pipelines.unet.stage import EvaluationStage
from pipelines.weights.family import Family

CPU = PlainDevice(torch.device("cpu"))
SHAPE = (4, 16, 16)
TRUE = torch.tensor([128.0, 128, 0, 0, 128, 128])


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def conditioning(family: Family, seed: int, chunks: int = 1) -> Conditioning:
    config = family.unet.config
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    return Conditioning(noise(seed, 77 * chunks, config.cross_attention_dim), noise(seed + 1, pooled))


def guide(
    family: Family,
    seed: int,
    *,
    chunks: int = 1,
    negative: bool = False,
    scale: float = 1.0,
    loras: tuple[RowLora, ...] = (),
) -> Guide:
    return Guide(
        unet=family.unet,
        positive=conditioning(family, seed, chunks),
        negative=conditioning(family, seed + 50) if negative else None,
        guidance=Guidance(scale),
        sizes=SizeIds(TRUE, TRUE, TRUE),
        loras=loras,
    )


def stage_of(family: Family, *, rounded: bool = False) -> EvaluationStage:
    return EvaluationStage(UNetRunner(family.rows), Gatherer(CPU, rounded=rounded), RowCaps(16))


@torch.inference_mode()
def run(family: Family, asks: Sequence[Evaluate], *, rounded: bool = False) -> Sequence[Tensor]:
    return stage_of(family, rounded=rounded).run(asks).values


def row(family: Family, seed: int, *, chunks: int = 1, **carried: Any) -> Row:
    return Row(conditioning(family, seed, chunks), TRUE, **carried)


def sample(seed: int, carried: Row, shape: tuple[int, ...] = SHAPE) -> Sample:
    """A latent at some level that depends on the seed."""
    return Sample(noise(seed, *shape) * 2, 1.0 + seed % 3, 300 + 100 * (seed % 3), carried)


def gather(family: Family, samples: Sequence[Sample], *, rounded: bool = False) -> UNetCall:
    return Gatherer(CPU, rounded=rounded).gather(family.unet, samples)


@torch.inference_mode()
def predict(family: Family, samples: Sequence[Sample]) -> Tensor:
    """The predicted noise of each sample, from one call."""
    return UNetRunner(family.rows).run(gather(family, samples))


def plain(family: Family, changed: Mapping[str, Tensor] = {}) -> UNet2DConditionModel:
    """The family's UNet as diffusers has it, without our layers, with some weights changed."""
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel.from_config(family.unet.config)
    unet.load_state_dict({**family.unet.state_dict(), **changed}, assign=True)
    return unet.eval().requires_grad_(False)  # type: ignore[no-any-return]


@torch.inference_mode()
def alone(family: Family, unet: UNet2DConditionModel, each: Sample, context: Any = None) -> Tensor:
    """What a UNet predicts for one sample, called as diffusers' pipelines call it."""
    call = gather(family, [replace(each, row=replace(each.row, head=None, images=(), loras=()))])
    predicted: Tensor = unet(
        call.x,
        call.timesteps,
        encoder_hidden_states=call.text.context if context is None else (call.text.context, context),
        added_cond_kwargs={"text_embeds": call.text.pooled, "time_ids": call.size_ids},
    ).sample
    return predicted[0]
