"""How a picture comes about, as straight-line code: the routine of a job and the trajectory of each of its images.

Nothing here knows of batches: what needs the device is asked for, and the engine decides with whom it is shared.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from pipelines.conditioning import Conditioning, Prompt
from pipelines.denoising.denoisers import Watch, blended, consistent, evaluate, noted, sample, swapped, watched
from pipelines.denoising.noise import SAMPLERS, DrawnNoise, draw_noise
from pipelines.denoising.schedules import NoiseTable
from pipelines.denoising.sigma_schedule import SigmaSchedule
from pipelines.device import Device, Download
from pipelines.engine.tasks import Fork, Last, Routine, ask
from pipelines.events import Drawn
from pipelines.images.resize import centre_of
from pipelines.inputs import Hint, Inputs, Look
from pipelines.needs import PATCHES
from pipelines.parts import Part, Prediction
from pipelines.previews import Previews
from pipelines.refining import Leads, Refining, Swap, led_by, plan_refining, refined_leads
from pipelines.repainting import SWITCH, HolePictures, Repaint, put_back, read_around, read_hole
from pipelines.spec import SamplerName, Spec
from pipelines.stages.hint import EncodeHint
from pipelines.stages.image_prompt import SeePicture
from pipelines.stages.interposer import Interpose
from pipelines.stages.text import EncodeText
from pipelines.stages.upscale import EnlargingJob, enlarge, to_pixels
from pipelines.stages.vae import FACTOR, LATENT_CHANNELS, Picture, decode, encode, finite
from pipelines.unet.guidance import LAST_TIMESTEP
from pipelines.unet.guide import ControlImage, Guidance, Guide, ImageReference, SizeIds
from pipelines.weights.image_prompt import ImagePrompter
from pipelines.weights.refiners import Refiner
from pipelines.weights.variant_spec import LoraRef, VariantSpec
from pipelines.weights.variants import Variant

Prompts = tuple[Prompt, Prompt | None]
"""Of a picture: the positive one, and the negative one where there is guidance. Pictures share those that are equal."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a job needs beside the device, ready before it joins the others.

    prompts, noise: of each image, the noise on the device. prediction: what the variant's UNet predicts.
    enlarging: of the picture that is drawn over, where the spec has one to enlarge, or of a small area around a hole.
    prompters: by the adapters of the inputs' references that act. clean: the variant without the patch of an inpaint
    model, where the job's own has one that gives way to it. refining: None where no refiner draws.
    """

    spec: Spec
    inputs: Inputs
    variant: Variant
    prompts: Sequence[Prompts]
    run: SigmaSchedule
    noise: Sequence[DrawnNoise]
    sizes: SizeIds
    prediction: Prediction
    device: Device
    enlarging: EnlargingJob | None = None
    prompters: Mapping[Part, ImagePrompter] = field(default_factory=dict)
    clean: Variant | None = None
    refining: Refining | None = None


def variant_spec(inputs: Inputs) -> VariantSpec:
    """The weights that pictures are drawn with."""
    loras = [
        (found.lora.performance, LoraRef(found.path, found.lora.scale, found.lora.field, found.lora.force))
        for found in inputs.loras
    ]
    return VariantSpec(
        performance=tuple(each for performance, each in loras if performance),
        adapters=tuple(each for performance, each in loras if not performance),
        controls=tuple(sorted({hint.control for hint in inputs.structures if _acts(hint)})),
        patch=None if inputs.hole is None else PATCHES[inputs.hole.canvas.engine],
    )


def clean_spec(wanted: VariantSpec, spec: Spec) -> VariantSpec | None:
    """The weights that an inpaint model gives way to in the last steps; None where there is no such model, or a refiner
    has those steps."""
    return None if wanted.patch is None or spec.refiner is not None else replace(wanted, patch=None, controls=())


def adapters_of(inputs: Inputs) -> frozenset[Part]:
    """The image-prompt adapters that a picture is drawn with."""
    return frozenset(look.adapter for look in inputs.references if _acts(look))


def prepare_job(
    spec: Spec,
    inputs: Inputs,
    variant: Variant,
    prompts: Sequence[Prompts],
    run: SigmaSchedule,
    device: Device,
    prediction: Prediction = "epsilon",
    enlarging: EnlargingJob | None = None,
    prompters: Mapping[Part, ImagePrompter] = MappingProxyType({}),
    clean: Variant | None = None,
    refiner: Refiner | None = None,
) -> Prepared:
    """Draw the noise of a job, and upload what is constant in it. For a worker's thread. run: the spec's levels.
    refiner: the one of a spec that asks for it."""
    shape = (LATENT_CHANNELS, inputs.size.height // FACTOR, inputs.size.width // FACTOR)
    around = inputs.hole is not None
    noise = [draw_noise(spec.sampler, run, shape, seed, around=around).on(device) for seed in spec.seeds]
    sizes = _size_ids(spec, inputs, device)
    return Prepared(
        spec,
        inputs,
        variant,
        prompts,
        run,
        noise,
        sizes,
        prediction,
        device,
        enlarging=enlarging,
        prompters=prompters,
        clean=clean,
        refining=None if refiner is None else plan_refining(spec, inputs, refiner, run, noise, device),
    )


def draw(job: Prepared, previews: Previews | None = None) -> Routine[Last]:
    """The routine of a job: what its images share, then one trajectory each. previews: hear of their latents."""
    if previews is not None:
        previews.begin()
    for variant in filter(None, (job.variant, job.clean)):
        variant.ready()
    read = yield from _conditionings(job)
    controls = yield from _controls(job)
    hole = yield from _hole(job)
    references = yield from _references(job)
    start = yield from _start(job)
    guidance = _guidance(job.spec)
    model = job.variant
    guides = [
        Guide(
            model.unet,
            positive,
            negative,
            guidance,
            job.sizes,
            controls,
            model.group,
            job.prediction,
            references,
            loras=model.loras,
        )
        for positive, negative in read
    ]
    watches = [None if previews is None else partial(previews.note, place) for place in range(len(job.noise))]
    pictures = yield from ask(
        Fork(
            [
                trajectory(job, place, _leads(job, guide), start, hole, watch)
                for place, (guide, watch) in enumerate(zip(guides, watches, strict=True))
            ]
        )
    )
    return partial(_drawn, pictures, job.inputs)


def trajectory(
    job: Prepared,
    place: int,
    leads: Leads,
    start: Picture | None,
    hole: HolePictures | None = None,
    watch: Watch | None = None,
) -> Routine[Download]:
    """The image at a place: noise from its own seed over `start` or what is in the hole, denoising, decoding.

    Returns (height, width, 3) uint8.
    """
    seed, noise, refining = job.spec.seeds[place], job.noise[place], job.refining
    sampler, run, first_vae, last_vae = job.spec.sampler, job.run, None, None
    if refining is not None:
        run, first_vae, last_vae = refining.first, refining.first_vae, refining.last_vae
        if refining.way == "alone":
            sampler = refining.sampler
    x, guide = noise.first * run.first_deviation, leads.first
    kept: Repaint | None = None
    if hole is not None and job.inputs.hole is not None:
        head = None if refining is not None and refining.way == "alone" else job.variant.head
        guide, kept = yield from read_around(hole, guide, head, seed, job.device, first_vae)
        if job.inputs.hole.canvas.initial_latent:
            x = x + kept.original
    elif start is not None:
        x = x + (yield from encode(start, seed, job.device, first_vae))
    implied: deque[Tensor] = deque(maxlen=1)
    note = implied.append if refining is not None and refining.way == "exchanged" else None
    latent = yield from denoise(sampler, run, x, noise, guide, None if first_vae else watch, kept, leads.swap, note)
    if refining is not None and refining.second is not None and leads.second is not None:
        run, noise, own = refining.second, refining.noise[place], refining.refiner.own
        if own is not None:  # fooocus-facts 4.6, VAE swap
            latent = yield from ask(Interpose(latent, own))
            latent = latent + led_by(noise.first, implied[0]) * run.first_deviation
            watch = None  # the colours of previews are those of the family's latents
            if hole is not None and kept is not None:
                kept = Repaint(kept.mask, (yield from encode(hole.fill, seed, job.device, own.vae)))
        latent = yield from denoise(
            refining.sampler, run, latent, noise, leads.second, watch, kept, before=refining.switch
        )
    return (yield from decode(latent, job.device, last_vae))


def enlarge_alone(job: EnlargingJob, device: Device) -> Routine[Last]:
    """The routine of a job that enlarges a picture and does no more: nothing is denoised, and its steps are tiles."""
    enlarged = yield from enlarge(job, told=True)
    picture = device.download(to_pixels(enlarged))
    largest = device.download(torch.linalg.vector_norm(enlarged, torch.inf))  # the answers' own is read a turn later
    return partial(_drawn, [partial(finite, picture, largest, "the upscaler made values that are not finite")], None)


def denoise(
    sampler: SamplerName,
    run: SigmaSchedule,
    x: Tensor,
    noise: DrawnNoise,
    guide: Guide,
    watch: Watch | None = None,
    kept: Repaint | None = None,
    swap: Swap | None = None,
    note: Watch | None = None,
    before: int = 0,
) -> Routine[Tensor]:
    """The denoising of a latent, (channels, h, w) float32 at the run's first level.

    kept: of the picture around a hole, before and after each evaluation. note: is shown what the guide's evaluations
    take for noise. before: steps of a run before this one.
    """
    denoiser = evaluate(guide, run.table)
    if note is not None:
        denoiser = noted(denoiser, note)
    if swap is not None and swap.after < run.steps:
        denoiser = swapped(denoiser, evaluate(swap.guide, run.table), float(run.sigmas[swap.after]))
    if sampler == "lcm":
        denoiser = consistent(denoiser, run.table)
    if kept is not None:
        denoiser = blended(denoiser, kept.mask, kept.original, noise.replay_around())
    steps = SAMPLERS[sampler].make(x, run, noise.replay())
    return (yield from sample(steps, watched(denoiser, run, watch, before)))


def _leads(job: Prepared, guide: Guide) -> Leads:
    """Who leads when. guide: of the job's own variant."""
    if job.refining is not None:
        return refined_leads(guide, job.refining, job.inputs.size, job.device)
    if job.clean is not None:  # the base takes over from its inpaint model as a refiner would (fooocus-facts 4.6)
        return Leads(
            guide, Swap(guide.on(job.clean.unet, job.clean.group, job.clean.loras), round(job.spec.steps * SWITCH))
        )
    return Leads(guide)


def _conditionings(job: Prepared) -> Routine[list[tuple[Conditioning, Conditioning | None]]]:
    """Of each image; each prompt is encoded once, all of them side by side."""
    unlike = list(dict.fromkeys(prompt for pair in job.prompts for prompt in pair if prompt is not None))
    answers = yield from ask(Fork([ask(EncodeText(job.variant, prompt)) for prompt in unlike]))
    read = dict(zip(unlike, answers, strict=True))
    return [(read[positive], None if negative is None else read[negative]) for positive, negative in job.prompts]


def _hole(job: Prepared) -> Routine[HolePictures | None]:
    """What all images of the job share of the picture around their hole, where they have one."""
    if job.inputs.hole is None:
        return None
    return (yield from read_hole(job.inputs.hole, job.enlarging, job.device))


def _start(job: Prepared) -> Routine[Picture | None]:
    """What all images of the job are drawn over, at its size."""
    if job.enlarging is None or job.inputs.hole is not None:
        return job.inputs.start
    enlarged = to_pixels((yield from enlarge(job.enlarging)))
    size = job.inputs.size
    wanted = job.enlarging.wanted
    return enlarged[centre_of((wanted.height, wanted.width), (size.height, size.width))]


def _drawn(pictures: Sequence[Download], inputs: Inputs | None, timings: Mapping[str, float]) -> Drawn:
    """inputs: of what was denoised; None for a picture that was enlarged alone."""
    images = np.stack([picture().numpy() for picture in pictures])
    if inputs is not None and inputs.hole is not None:
        images = np.stack([put_back(image, inputs.hole) for image in images])
    if inputs is not None and inputs.cut is not None:
        rows, columns = centre_of(images.shape[1:3], inputs.cut[::-1])
        images = np.ascontiguousarray(images[:, rows, columns])
    return Drawn(images, timings)


def _acts(picture: Hint | Look) -> bool:
    return (picture.structure if isinstance(picture, Hint) else picture.reference).acts


def _controls(job: Prepared) -> Routine[tuple[ControlImage, ...]]:
    images = []
    for hint in filter(_acts, job.inputs.structures):
        network = job.variant.controls[hint.control]
        embedded = yield from ask(EncodeHint(network, hint.pixels))
        until = _until(hint.structure.stop_at, job.run.table.whole)
        images.append(ControlImage(network, embedded, hint.structure.weight, until))
    return tuple(images)


def _references(job: Prepared) -> Routine[tuple[ImageReference, ...]]:
    found = []
    for look in filter(_acts, job.inputs.references):
        prompter, asked = job.prompters[look.adapter], look.reference
        tokens = yield from ask(SeePicture(prompter, look.pixels))
        found.append(ImageReference(prompter.attention, tokens, prompter.negative, asked.weight, asked.stop_at))
    return tuple(found)


def _until(stop_at: float, table: NoiseTable) -> float:
    """The lowest sigma at which a control that stops at this progress still acts (fooocus-facts 5.6)."""
    if stop_at >= 1:
        return 0.0
    return float(table.sigma(torch.tensor(LAST_TIMESTEP * (1 - stop_at))))


def _guidance(spec: Spec) -> Guidance:
    asked = spec.guidance
    mimicked = math.inf if asked.mimicked is None else asked.mimicked
    return Guidance(asked.scale, mimicked, asked.sharpness, asked.rescale)


def _size_ids(spec: Spec, inputs: Inputs, device: Device) -> SizeIds:
    """Original size, crop and target size as SDXL's size conditioning has them (fooocus-facts 3.9)."""
    size, emphasis = inputs.size, spec.guidance.sizes
    target = [64 * round(side / 64) for side in (size.height, size.width)]

    def ids(height: float, width: float) -> Tensor:
        return device.upload(torch.tensor([int(height), int(width), 0, 0, *target], dtype=torch.float32))

    return SizeIds(
        true=ids(*target),
        positive=ids(size.height * emphasis.positive, size.width * emphasis.positive),
        negative=ids(size.height * emphasis.negative, size.width * emphasis.negative),
        emphasised_above=LAST_TIMESTEP * (1 - emphasis.end),
    )
