"""How a picture comes about, as straight-line code: the routine of a job and the trajectory of each of its images.

Nothing here knows of batches: what needs the device is asked for, and the engine decides with whom it is shared.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipelines.denoising.asks import Advance, Fork, Routine
from pipelines.denoising.denoiser import ControlBranch, Evaluate, Guide
from pipelines.denoising.guidance import consistency
from pipelines.denoising.samplers import Sampler, euler, lcm
from pipelines.denoising.schedules import NoiseTable, lcm_table, sdxl_table, sgm_uniform, tail
from pipelines.inputs import Inputs
from pipelines.prompts.lines import prompt_lines
from pipelines.spec import Control, Spec
from pipelines.stages.hint import EncodeHint
from pipelines.stages.text import EncodeText
from pipelines.stages.vae import FACTOR, DecodeLatent, EncodeImage
from pipelines.weights.recipe import Recipe, Scaled
from pipelines.weights.variants import Variant

UNGUIDED = 1e-4  # a guidance scale this near to 1 needs no negative pass (fooocus-facts 1)
LATENT_CHANNELS = 4


@dataclass(frozen=True, eq=False)
class Run:
    """The noise levels of a run. table: what the model knows. sigmas: (steps + 1,), descending to 0."""

    table: NoiseTable
    sigmas: Tensor


def levels(spec: Spec) -> Run:
    """The noise levels that a spec asks for."""
    table = sdxl_table()
    match spec.schedule:
        case "sgm_uniform":
            return Run(table, sgm_uniform(table, spec.steps))
        case "lcm":
            distilled = lcm_table(table)
            return Run(distilled, sgm_uniform(distilled, spec.steps))
        case "tail":
            return Run(table, tail(table, spec.steps, spec.start.strength if spec.start else 1.0))


def recipe(spec: Spec, inputs: Inputs) -> Recipe:
    """The weights that a spec asks for."""
    loras = [
        (lora.performance, Scaled(path, lora.scale, lora.field))
        for path, lora in zip(inputs.loras, spec.loras, strict=True)
    ]
    return Recipe(
        performance=tuple(each for performance, each in loras if performance),
        adapters=tuple(each for performance, each in loras if not performance),
        controls=tuple(sorted({control.kind for control in spec.controls if _acts(control)})),
    )


def draw(spec: Spec, inputs: Inputs, prompt: str, variant: Variant) -> Routine:
    """The routine of a job: what its images share, then one trajectory each. Returns (n, height, width, 3) uint8.

    variant: of the spec's `recipe`.
    """
    positive = yield EncodeText(variant, tuple(prompt_lines(prompt)))
    negative = None
    if abs(spec.guidance_scale - 1) >= UNGUIDED:
        negative = yield EncodeText(variant, tuple(prompt_lines(spec.negative_prompt)))
    controls = yield from _controls(spec, inputs, variant)
    sizes = _size_ids(inputs, variant)
    guide = Guide(variant.unet, positive, negative, spec.guidance_scale, sizes, controls, variant.group)
    pictures = yield Fork([trajectory(spec, inputs, seed, guide) for seed in spec.seeds])
    return np.stack(pictures)


def trajectory(spec: Spec, inputs: Inputs, seed: int, guide: Guide) -> Routine:
    """One image: noise from its own seed, denoising, decoding. Returns (height, width, 3) uint8."""
    run = levels(spec)
    shape = (LATENT_CHANNELS, inputs.size.height // FACTOR, inputs.size.width // FACTOR)
    noise = _noise(seed, shape, guide.size_ids.device)
    x = next(noise) * _first_level(run)
    if inputs.start is not None:
        x = x + (yield EncodeImage(inputs.start, seed))
    sampler = lcm(x, run.sigmas, lambda *_: next(noise)) if spec.sampler == "lcm" else euler(x, run.sigmas)
    latent = yield from denoise(sampler, run, guide, distilled=spec.sampler == "lcm")
    pixels = yield DecodeLatent(latent)
    return pixels


def denoise(sampler: Sampler, run: Run, guide: Guide, *, distilled: bool) -> Routine:
    """Ask for every evaluation of a sampler and say how far it is. distilled: apply LCM's boundary condition."""
    begun = 0
    try:
        x, sigma = next(sampler)
        while True:
            begun = max(begun, int((run.sigmas >= sigma).sum()))
            timestep = run.table.timestep(sigma)
            clean = yield Evaluate(x, sigma, timestep, guide)
            if distilled:
                clean = consistency(clean, x, timestep)
            yield Advance(begun)
            x, sigma = sampler.send(clean)
    except StopIteration as end:
        return end.value


def _acts(control: Control) -> bool:
    return control.weight != 0 and control.stop_at > 0


def _controls(spec: Spec, inputs: Inputs, variant: Variant) -> Routine:
    branches = []
    for control, hint in zip(spec.controls, inputs.hints, strict=True):
        if not _acts(control):
            continue
        network = variant.controls[control.kind]
        embedded = yield EncodeHint(network, hint)
        branches.append(ControlBranch(network, embedded, control.weight, _until(control.stop_at)))
    return tuple(branches)


def _until(stop_at: float) -> float:
    """The lowest sigma at which a control that stops at this progress still acts (fooocus-facts 5.6)."""
    if stop_at >= 1:
        return 0.0
    return float(sdxl_table().sigma(torch.tensor(999 * (1 - stop_at))))


def _noise(seed: int, shape: tuple[int, ...], device: torch.device) -> Iterator[Tensor]:
    """Standard normal noise of one image, drawn on the CPU so that a seed means the same everywhere."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randn((1, *shape), generator=generator)[0].to(device)


def _first_level(run: Run) -> float:
    """What the first noise is multiplied by: a run from the top level begins with unit data's total deviation."""
    first = float(run.sigmas[0])
    at_the_top = first >= run.table.sigma_max * (1 - 1e-5)
    return float((1 + first**2) ** 0.5) if at_the_top else first


def _size_ids(inputs: Inputs, variant: Variant) -> Tensor:
    """Original size, crop and target size as SDXL's size conditioning has them (fooocus-facts 3.9)."""
    height, width = (64 * round(side / 64) for side in (inputs.size.height, inputs.size.width))
    return torch.tensor(
        [height, width, 0, 0, height, width], dtype=torch.float32, device=variant.unet.conv_in.weight.device
    )
