"""The denoiser: one UNet call for the open evaluations of many trajectories, unlike as they may be."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from torch.nn.functional import pad

from pipelines.conditioning import Conditioning
from pipelines.denoising.guidance import classifier_free, clean_latent
from pipelines.weights.control_lora import control_residuals, softness_ramp


@dataclass(frozen=True, eq=False)
class ControlBranch:
    """A control image in a run. hint: (channels, h, w), embedded once. Acts while sigma is at or above `until`."""

    network: ControlNetModel
    hint: Tensor
    weight: float
    until: float


@dataclass(frozen=True, eq=False)
class Guide:
    """What the trajectories of one job share: everything that leads an evaluation but its latent and its sigma.

    negative: None for a run without guidance (scale 1). size_ids: (6,) original, crop and target height and width.
    group: names the weights of `unet` (`Variant.group`); None means this very object.
    """

    unet: UNet2DConditionModel
    positive: Conditioning
    negative: Conditioning | None
    scale: float
    size_ids: Tensor
    controls: tuple[ControlBranch, ...] = ()
    group: Hashable = None


@dataclass(frozen=True, eq=False)
class Evaluate:
    """Predict the clean latent of x, (channels, h, w) float32, at sigma. The answer has x's shape."""

    x: Tensor
    sigma: float
    timestep: int
    guide: Guide

    @property
    def key(self) -> Hashable:
        guide = self.guide
        return id(guide.unet) if guide.group is None else guide.group, tuple(self.x.shape)

    @property
    def rows(self) -> int:
        return 1 if self.guide.negative is None else 2


@dataclass(frozen=True, eq=False)
class _Row:
    """One sample of the call."""

    ask: Evaluate
    conditioning: Conditioning


@dataclass(frozen=True, eq=False)
class _Batch:
    """The arguments of one call; first dimension: rows. mask is None when every context has the same length."""

    x: Tensor
    timesteps: Tensor
    context: Tensor
    mask: Tensor | None
    pooled: Tensor
    size_ids: Tensor

    @property
    def added(self) -> dict[str, Tensor]:
        return {"text_embeds": self.pooled, "time_ids": self.size_ids}

    def take(self, rows: Tensor) -> "_Batch":
        mask = None if self.mask is None else self.mask[rows]
        return _Batch(
            self.x[rows], self.timesteps[rows], self.context[rows], mask, self.pooled[rows], self.size_ids[rows]
        )


class Denoiser:
    """The stage of `Evaluate`. rows: the most rows in one call."""

    name = "denoise"

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def cap(self, ask: Any) -> int:
        return self._rows

    def run(self, asks: Sequence[Evaluate]) -> list[Tensor]:
        rows = [
            _Row(ask, each) for ask in asks for each in (ask.guide.negative, ask.guide.positive) if each is not None
        ]
        unet = asks[0].guide.unet
        batch = _gather(rows, unet)
        down, middle = _controls(rows, batch)
        eps = unet(
            batch.x,
            batch.timesteps,
            encoder_hidden_states=batch.context,
            encoder_attention_mask=batch.mask,
            added_cond_kwargs=batch.added,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0].float()
        predicted = iter(eps)
        return [_guided(ask, predicted) for ask in asks]


def _guided(ask: Evaluate, predicted: Any) -> Tensor:
    """Take the ask's one or two rows of the prediction, in the order in which they were put in."""
    clean = clean_latent(ask.x, next(predicted), ask.sigma)
    if ask.guide.negative is None:
        return clean
    negative, positive = clean, clean_latent(ask.x, next(predicted), ask.sigma)
    return classifier_free(positive, negative, ask.guide.scale)


def _gather(rows: Sequence[_Row], unet: UNet2DConditionModel) -> _Batch:
    """Stack the rows; shorter contexts are padded with zeros that the mask hides."""
    like = unet.conv_in.weight  # asking diffusers for its device and dtype walks all modules
    device, dtype = like.device, like.dtype
    lengths = [len(row.conditioning.context) for row in rows]
    longest = max(lengths)
    context = torch.stack(
        [pad(row.conditioning.context, (0, 0, 0, longest - length)) for row, length in zip(rows, lengths, strict=True)]
    )
    mask = None
    if min(lengths) < longest:
        mask = (torch.arange(longest)[None] < torch.tensor(lengths)[:, None]).to(device, dtype)
    return _Batch(
        x=torch.stack([row.ask.x / (row.ask.sigma**2 + 1) ** 0.5 for row in rows]).to(dtype),
        timesteps=torch.tensor([row.ask.timestep for row in rows], device=device),
        context=context.to(dtype),
        mask=mask,
        pooled=torch.stack([row.conditioning.pooled for row in rows]).to(dtype),
        size_ids=torch.stack([row.ask.guide.size_ids for row in rows]).to(dtype),
    )


def _controls(rows: Sequence[_Row], batch: _Batch) -> tuple[list[Tensor] | None, Tensor | None]:
    """The summed residuals of every control that acts now, zero in rows that have none; one call a network."""
    acting: dict[int, list[tuple[int, ControlBranch]]] = defaultdict(list)
    for at, row in enumerate(rows):
        for branch in row.ask.guide.controls:
            if row.ask.sigma >= branch.until:
                acting[id(branch.network)].append((at, branch))
    total: list[Tensor] = []
    for pairs in acting.values():
        places = torch.tensor([at for at, _ in pairs], device=batch.x.device)
        weights = torch.tensor([branch.weight for _, branch in pairs], device=batch.x.device)
        part = batch.take(places)
        down, middle = control_residuals(
            pairs[0][1].network,
            part.x,
            part.timesteps,
            part.context,
            part.added,
            torch.stack([branch.hint for _, branch in pairs]),
            part.mask,
        )
        residuals = [*down, middle]
        if not total:
            total = [residual.new_zeros(len(rows), *residual.shape[1:]) for residual in residuals]
        for sum_, residual, soft in zip(total, residuals, softness_ramp(len(residuals)), strict=True):
            sum_.index_add_(0, places, residual * (soft * weights).to(residual.dtype)[:, None, None, None])
    if not total:
        return None, None
    return total[:-1], total[-1]
