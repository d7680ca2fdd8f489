"""How a picture comes about, as straight-line code: the routine of a job and the trajectory of each of its images.

Nothing here knows of batches: what needs the device is asked for, and the engine decides with whom it is shared.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pipelines.denoising.asks import Advance, Fork, Routine
from pipelines.denoising.denoiser import ControlBranch, Evaluate, Guidance, Guide, SizeIds
from pipelines.denoising.guidance import LAST_TIMESTEP, consistency
from pipelines.denoising.runs import Run, run_of, sampler_of
from pipelines.denoising.samplers import Sampler
from pipelines.denoising.schedules import sdxl_table
from pipelines.inputs import Hint, Inputs
from pipelines.previews import Previews
from pipelines.prompts.lines import prompt_lines
from pipelines.spec import Spec
from pipelines.stages.hint import EncodeHint
from pipelines.stages.text import EncodeText
from pipelines.stages.vae import FACTOR, DecodeLatent, EncodeImage
from pipelines.weights.recipe import Recipe, Scaled
from pipelines.weights.variants import Variant

Watch = Callable[[Tensor], None]

UNGUIDED = 1e-4  # a guidance scale this near to 1 needs no negative pass (fooocus-facts 1)
LATENT_CHANNELS = 4


def recipe(spec: Spec, inputs: Inputs) -> Recipe:
    """The weights that a spec asks for."""
    loras = [
        (lora.performance, Scaled(path, lora.scale, lora.field))
        for path, lora in zip(inputs.loras, spec.loras, strict=True)
    ]
    return Recipe(
        performance=tuple(each for performance, each in loras if performance),
        adapters=tuple(each for performance, each in loras if not performance),
        controls=tuple(sorted({hint.control for hint in inputs.structures if _acts(hint)})),
    )


def draw(spec: Spec, inputs: Inputs, prompt: str, variant: Variant, previews: Previews | None = None) -> Routine:
    """The routine of a job: what its images share, then one trajectory each. Returns (n, height, width, 3) uint8.

    variant: of the spec's `recipe`. previews: hear of each picture's latents on the way.
    """
    positive = yield EncodeText(variant, tuple(prompt_lines(prompt)), "prompt")
    negative = None
    if abs(spec.guidance.scale - 1) >= UNGUIDED:
        negative = yield EncodeText(variant, tuple(prompt_lines(spec.negative_prompt)), "negative_prompt")
    controls = yield from _controls(inputs, variant)
    sizes = _size_ids(spec, inputs, variant)
    guide = Guide(variant.unet, positive, negative, _guidance(spec), sizes, controls, variant.group)
    watches = [None if previews is None else partial(previews.note, place) for place in range(len(spec.seeds))]
    seen = zip(spec.seeds, watches, strict=True)
    pictures = yield Fork([trajectory(spec, inputs, seed, guide, watch) for seed, watch in seen])
    return np.stack(pictures)


def trajectory(spec: Spec, inputs: Inputs, seed: int, guide: Guide, watch: Watch | None = None) -> Routine:
    """One image: noise from its own seed, denoising, decoding. Returns (height, width, 3) uint8."""
    run = run_of(spec)
    shape = (LATENT_CHANNELS, inputs.size.height // FACTOR, inputs.size.width // FACTOR)
    noise = _noise(seed, shape, guide.sizes.true.device)
    x = next(noise) * _first_level(run)
    if inputs.start is not None:
        x = x + (yield EncodeImage(inputs.start, seed))
    sampler = sampler_of(spec, x, run, lambda *_: next(noise), seed)
    latent = yield from denoise(sampler, run, guide, distilled=spec.sampler == "lcm", watch=watch)
    pixels = yield DecodeLatent(latent)
    return pixels


def denoise(sampler: Sampler, run: Run, guide: Guide, *, distilled: bool, watch: Watch | None = None) -> Routine:
    """Ask for every evaluation of a sampler and say how far it is. distilled: apply LCM's boundary condition.

    watch: is shown the clean latent of each evaluation.
    """
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
            if watch is not None:
                watch(clean)
            x, sigma = sampler.send(clean)
    except StopIteration as end:
        return end.value


def _acts(hint: Hint) -> bool:
    return hint.structure.weight != 0 and hint.structure.stop_at > 0


def _controls(inputs: Inputs, variant: Variant) -> Routine:
    branches = []
    for hint in filter(_acts, inputs.structures):
        network = variant.controls[hint.control]
        embedded = yield EncodeHint(network, hint.pixels)
        branches.append(ControlBranch(network, embedded, hint.structure.weight, _until(hint.structure.stop_at)))
    return tuple(branches)


def _until(stop_at: float) -> float:
    """The lowest sigma at which a control that stops at this progress still acts (fooocus-facts 5.6)."""
    if stop_at >= 1:
        return 0.0
    return float(sdxl_table().sigma(torch.tensor(LAST_TIMESTEP * (1 - stop_at))))


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


def _guidance(spec: Spec) -> Guidance:
    asked = spec.guidance
    mimicked = math.inf if asked.mimicked is None else asked.mimicked
    return Guidance(asked.scale, mimicked, asked.sharpness, asked.rescale)


def _size_ids(spec: Spec, inputs: Inputs, variant: Variant) -> SizeIds:
    """Original size, crop and target size as SDXL's size conditioning has them (fooocus-facts 3.9)."""
    size, emphasis = inputs.size, spec.guidance.sizes
    target = [64 * round(side / 64) for side in (size.height, size.width)]

    def ids(height: float, width: float) -> Tensor:
        device = variant.unet.conv_in.weight.device
        return torch.tensor([int(height), int(width), 0, 0, *target], dtype=torch.float32, device=device)

    return SizeIds(
        true=ids(*target),
        positive=ids(size.height * emphasis.positive, size.width * emphasis.positive),
        negative=ids(size.height * emphasis.negative, size.width * emphasis.negative),
        emphasised_above=LAST_TIMESTEP * (1 - emphasis.end),
    )
