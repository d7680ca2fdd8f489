"""A plain diffusers loop over a batch of like jobs: what the engine is compared with on the pocket family."""

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_lcm import LCMScheduler
from torch import Tensor

from pipelines.conditioning import Conditioning, read_prompt
from pipelines.device import PlainDevice
from pipelines.events import Pixels
from pipelines.inputs import Inputs
from pipelines.spec import Spec
from pipelines.stages.text import EncodeText, TextStage
from pipelines.trajectory import variant_spec
from pipelines.weights.family import Family
from pipelines.weights.variants import Variant, VariantStore

FACTOR = 8
BETAS = ("beta_start", 0.00085), ("beta_end", 0.012), ("beta_schedule", "scaled_linear")


@dataclass(frozen=True, eq=False)
class Work:
    """One job: a spec of one picture and its prepared inputs."""

    name: str
    spec: Spec
    inputs: Inputs

    @property
    def like(self) -> Hashable:
        """Jobs with equal values can be one batch: same weights, sampler, size, guidance or none, control or none."""
        spec, inputs = self.spec, self.inputs
        guided = spec.guidance.scale != 1
        return spec.loras, spec.sampler, inputs.size, guided, tuple(hint.control for hint in inputs.structures)


@dataclass(frozen=True)
class Call:
    """One UNet call. began, ended: `time.perf_counter` seconds. rows: computed; useful: of jobs not yet finished."""

    began: float
    ended: float
    rows: int
    useful: int


@dataclass(eq=False)
class _Row:
    """One job in the batch."""

    work: Work
    scheduler: Any
    latent: Tensor
    conditionings: tuple[Conditioning, ...]
    done: int = 0

    @property
    def timestep(self) -> Tensor:
        """Of the next step; a finished row that rides along stays at its last."""
        timesteps: Tensor = self.scheduler.timesteps
        return timesteps[min(self.done, len(timesteps) - 1)]

    @property
    def finished(self) -> bool:
        return self.done == len(self.scheduler.timesteps)


def plain_unet(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """A UNet of the same weights as diffusers loads it: its own layers, in the default layout of memory."""
    with torch.device("meta"):
        plain: UNet2DConditionModel = UNet2DConditionModel.from_config(dict(unet.config))
    plain.load_state_dict({name: tensor.contiguous() for name, tensor in unet.state_dict().items()}, assign=True)
    plain.eval().requires_grad_(False)
    return plain


class PlainLoop:
    """Draws batches of like jobs, one batch after the other. padded: whether finished rows are computed to the end."""

    def __init__(self, family: Family, variants: VariantStore, *, padded: bool) -> None:
        self._family = family
        self._variants = variants
        self._padded = padded
        self._text = TextStage(family.tokenizers, PlainDevice(family.text_encoders[0].device))
        self._unets: dict[Hashable, UNet2DConditionModel] = {}
        self.calls: list[Call] = []

    def draw(self, works: Sequence[Work]) -> list[Pixels]:
        """Draw jobs that are alike, in one batch that runs as long as its longest member."""
        with torch.inference_mode():
            first = works[0]
            variant = self._variants.get(variant_spec(first.inputs))
            rows = [self._row(work, variant) for work in works]
            while not all(row.finished for row in rows):
                self._step(variant, rows if self._padded else [row for row in rows if not row.finished])
            vae = self._family.vae
            latents = torch.stack([row.latent for row in rows]) / vae.config["scaling_factor"]
            decoded = ((vae.decode(latents, return_dict=False)[0] + 1) / 2).clamp(0, 1) * 255
            return list(decoded.permute(0, 2, 3, 1).numpy().astype(np.uint8))

    def _row(self, work: Work, variant: Variant) -> _Row:
        spec, size = work.spec, work.inputs.size
        scheduler = LCMScheduler(**dict(BETAS)) if spec.sampler == "lcm" else EulerDiscreteScheduler(**dict(BETAS))
        scheduler.set_timesteps(spec.steps)
        prompts = [spec.prompt] if spec.guidance.scale == 1 else [spec.negative_prompt, spec.prompt]
        reads = [EncodeText(variant, read_prompt([prompt], self._family.tokenizers)) for prompt in prompts]
        generator = torch.Generator().manual_seed(spec.seeds[0])
        noise = torch.randn(1, 4, size.height // FACTOR, size.width // FACTOR, generator=generator)[0]
        return _Row(work, scheduler, noise * scheduler.init_noise_sigma, tuple(self._text.run(reads).values))

    def _step(self, variant: Variant, rows: Sequence[_Row]) -> None:
        """One step of every row: one UNet call, guidance, each row's own scheduler."""
        passes = len(rows[0].conditionings)
        began = time.perf_counter()
        inputs = [row.scheduler.scale_model_input(row.latent, row.timestep) for row in rows]
        predicted = self._predict(variant, torch.stack(inputs), rows)
        ended = time.perf_counter()
        self.calls.append(Call(began, ended, passes * len(rows), passes * sum(not row.finished for row in rows)))
        for row, *answers in zip(rows, *predicted.chunk(passes), strict=True):
            if row.finished:
                continue
            eps = answers[0]
            if passes == 2:
                eps = eps + row.work.spec.guidance.scale * (answers[1] - eps)
            row.latent = row.scheduler.step(eps[None], row.timestep, row.latent[None], return_dict=False)[0][0]
            row.done += 1

    def _predict(self, variant: Variant, x: Tensor, rows: Sequence[_Row]) -> Tensor:
        each = [(row, row.conditionings[at]) for at in range(len(rows[0].conditionings)) for row in rows]
        x = torch.cat([x] * len(rows[0].conditionings))
        timesteps = torch.stack([row.timestep for row, _ in each])
        context = torch.stack([conditioning.context for _, conditioning in each])
        size = rows[0].work.inputs.size
        sizes = torch.tensor([[size.height, size.width, 0, 0, size.height, size.width]], dtype=x.dtype)
        pooled = torch.stack([conditioning.pooled for _, conditioning in each])
        added = {"text_embeds": pooled, "time_ids": sizes.expand(len(each), 6)}
        down = middle = None
        for at, hint in enumerate(rows[0].work.inputs.structures):
            network = variant.controls[hint.control]
            hints = np.stack([row.work.inputs.structures[at].pixels for row, _ in each])
            down, middle = network(
                x,
                timesteps,
                encoder_hidden_states=context,
                controlnet_cond=torch.from_numpy(hints).permute(0, 3, 1, 2).float() / 255,
                conditioning_scale=hint.structure.weight,
                added_cond_kwargs=added,
                return_dict=False,
            )
        if variant.key not in self._unets:
            self._unets[variant.key] = plain_unet(variant.unet)
        predicted: Tensor = self._unets[variant.key](
            x,
            timesteps,
            encoder_hidden_states=context,
            added_cond_kwargs=added,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]
        return predicted
