"""The denoiser: one UNet call for the open evaluations of many trajectories, unlike as they may be."""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from torch.nn.functional import pad

from pipelines.conditioning import Conditioning
from pipelines.denoising.caps import RowCaps
from pipelines.denoising.guidance import adaptive_scale, classifier_free, clean_latent, progress, rescaled
from pipelines.denoising.sharpening import sharpen
from pipelines.weights.control_lora import control_residuals, softness_ramp


@dataclass(frozen=True, eq=False)
class ControlBranch:
    """A control image in a run. hint: (channels, h, w), embedded once. Acts while sigma is at or above `until`."""

    network: ControlNetModel
    hint: Tensor
    weight: float
    until: float


@dataclass(frozen=True, eq=False)
class SizeIds:
    """What the UNet is told of the picture's size: (6,) original, crop and target height and width.

    Above timestep `emphasised_above` the prompts get sizes of their own, which makes the picture bolder; below it, and
    by default, both get the true one.
    """

    true: Tensor
    positive: Tensor
    negative: Tensor
    emphasised_above: float = math.inf


@dataclass(frozen=True)
class Guidance:
    """How positive and negative prediction are put together (fooocus-facts 4.2). The defaults are the plain formula.

    mimicked: above this scale, early steps are guided with it. sharpness: of Fooocus' filter. rescale: the share by
    which the deviation of the positive prediction is restored.
    """

    scale: float
    mimicked: float = math.inf
    sharpness: float = 0.0
    rescale: float = 0.0


@dataclass(frozen=True, eq=False)
class Guide:
    """What the trajectories of one job share: everything that leads an evaluation but its latent and its sigma.

    negative: None for a run without guidance, whose scale is 1. group: names the weights of `unet` (`Variant.group`);
    None means this very object.
    """

    unet: UNet2DConditionModel
    positive: Conditioning
    negative: Conditioning | None
    guidance: Guidance
    sizes: SizeIds
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

    @property
    def cost(self) -> float:
        return float(self.rows * self.x.shape[-2] * self.x.shape[-1])


@dataclass(frozen=True, eq=False)
class _Row:
    """One sample of the call. sizes: those of its prompt while they are emphasised."""

    ask: Evaluate
    conditioning: Conditioning
    sizes: Tensor


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
    """The stage of `Evaluate`. caps: the most rows in one call, by size."""

    name = "denoise"

    def __init__(self, caps: RowCaps) -> None:
        self._caps = caps

    def cap(self, ask: Any) -> int:
        return self._caps.at(ask.x.shape[-2] * ask.x.shape[-1])

    def run(self, asks: Sequence[Evaluate]) -> list[Tensor]:
        rows = _rows(asks)
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
        return list(_guided(asks, eps))


def _rows(asks: Sequence[Evaluate]) -> list[_Row]:
    """A row for each ask's positive prompt, then one for each negative prompt that there is."""
    positive = [_Row(ask, ask.guide.positive, ask.guide.sizes.positive) for ask in asks]
    negative = [
        _Row(ask, ask.guide.negative, ask.guide.sizes.negative) for ask in asks if ask.guide.negative is not None
    ]
    return positive + negative


def _guided(asks: Sequence[Evaluate], eps: Tensor) -> Tensor:
    """The guided clean latents of the asks, in their order, from the predictions of their rows."""
    device = eps.device
    x = torch.stack([ask.x for ask in asks])
    sigmas = torch.tensor([ask.sigma for ask in asks], device=device)
    positive = eps[: len(asks)]
    clean = clean_latent(x, positive, sigmas)
    led = [at for at, ask in enumerate(asks) if ask.guide.negative is not None]
    if not led:
        return clean
    guidances = [asks[at].guide.guidance for at in led]

    def column(values: Iterable[float]) -> Tensor:
        return torch.tensor([*values], device=device)

    at = torch.tensor(led, device=device)
    done = progress(column(asks[place].timestep for place in led))
    positive, negative = positive[at], eps[len(asks) :]
    if any(guidance.sharpness > 0 for guidance in guidances):
        positive = sharpen(positive, clean[at], column(each.sharpness for each in guidances), done)
    scale = adaptive_scale(column(each.scale for each in guidances), column(each.mimicked for each in guidances), done)
    guided = classifier_free(positive, negative, scale)
    if any(guidance.rescale > 0 for guidance in guidances):
        guided = rescaled(guided, positive, column(each.rescale for each in guidances))
    return clean.index_copy(0, at, clean_latent(x[at], guided, sigmas[at]))


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
        size_ids=torch.stack([_size_ids(row) for row in rows]),  # the UNet embeds them in float32: bfloat16 has no 819
    )


def _size_ids(row: _Row) -> Tensor:
    sizes = row.ask.guide.sizes
    return row.sizes if row.ask.timestep > sizes.emphasised_above else sizes.true


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
