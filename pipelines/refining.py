"""How a refiner takes over the last steps of a picture: which way, at which step, on which levels (fooocus-facts 4.6).

Joint: one run, whose model is exchanged after the evaluation of the step `switch`. Separate: the base draws the steps
before `switch`, and the refiner a run of its own from there, on the same latent. Exchanged: the base draws the steps
before `switch` down to a clean latent; the refiner draws the rest on that, made one of its own latents and noised anew.
Alone: the refiner draws it all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from pipelines.denoising.noise import DrawnNoise, draw_noise, left_after
from pipelines.denoising.sigma_schedule import SigmaSchedule, sigma_schedule
from pipelines.device import Device
from pipelines.inputs import Inputs
from pipelines.spec import MAX_SEED, SamplerName, Size, Spec
from pipelines.unet.guide import Guide, SizeIds
from pipelines.weights.refiners import Refiner

Way = Literal["joint", "separate", "exchanged", "alone"]

TWO_LATENTS = 0.9  # share of the noise above which a picture passes through the latents of both models
FALLING = 0.834  # exponent by which below that the share of the steps left is held against the share of the noise
HOTTER = 1.4  # by which the levels of a refiner with latents of its own are raised
DISTILLED: tuple[SamplerName, ...] = ("lcm", "tcd")  # samplers whose steps only models make that were trained for them
POSITIVE_SCORE, NEGATIVE_SCORE = 6.0, 2.5  # of looks, which SDXL's refiner is told (fooocus-facts 3.9)


@dataclass(frozen=True, eq=False)
class Swap:
    """Another guide takes over in the midst of a run, after the evaluation of the step `after`."""

    guide: Guide
    after: int


@dataclass(frozen=True, eq=False)
class Leads:
    """What leads the pictures of a job: from the first step on, from the midst of that run on, and in a second run."""

    first: Guide
    swap: Swap | None = None
    second: Guide | None = None


@dataclass(frozen=True, eq=False)
class Refining:
    """How the pictures of one job get to their refiner, ready before it joins the others.

    switch: see the ways above. sampler: of the refiner's own run: the second one, or the only one where it draws
    alone. first, second: levels of these runs. noise: of each picture, for the second one.
    """

    refiner: Refiner
    way: Way
    switch: int
    sampler: SamplerName
    first: SigmaSchedule
    second: SigmaSchedule | None = None
    noise: Sequence[DrawnNoise] = ()

    @property
    def first_vae(self) -> AutoencoderKL | None:
        """Of the latents that the first run is on; None for the family's."""
        return self.last_vae if self.way == "alone" else None

    @property
    def last_vae(self) -> AutoencoderKL | None:
        """Likewise of those that the last run ends with."""
        return None if self.refiner.own is None else self.refiner.own.vae


def way_of(spec: Spec, strength: float, *, own_latents: bool) -> Way | None:
    """How a spec's refiner takes over; None where the base draws alone. strength: the share of the noise that is run.
    own_latents: whether the refiner's are others than the base's."""
    if spec.refiner is None or not takes_over(spec):
        return None
    switch = switch_step(spec)
    if not own_latents:
        return "alone" if spec.refiner.method == "separate" and switch == 0 else spec.refiner.method
    if strength > TWO_LATENTS:
        return "alone" if switch == 0 else "exchanged"
    left = (spec.steps - switch) / spec.steps
    return None if strength > left**FALLING else "alone"


def switch_step(spec: Spec) -> int:
    """The step of the spec's refiner, from 0."""
    return spec.steps if spec.refiner is None else round(spec.steps * spec.refiner.switch)


def takes_over(spec: Spec) -> bool:
    """Whether a refiner draws any step."""
    return switch_step(spec) < spec.steps


def plan_refining(
    spec: Spec,
    inputs: Inputs,
    refiner: Refiner,
    run: SigmaSchedule,
    noise: Sequence[DrawnNoise],
    device: Device,
) -> Refining | None:
    """How the pictures of a spec are refined; None where the base draws them alone. run, noise: of the whole run, the
    noise on the device. For a worker's thread."""
    strength = spec.beginning.strength if spec.beginning else inputs.strength
    way, switch = way_of(spec, strength, own_latents=refiner.own is not None), switch_step(spec)
    whole = sigma_schedule(spec, refiner.table, inputs.strength)  # as a refiner knows the levels
    sampler: SamplerName = "euler" if spec.sampler in DISTILLED else spec.sampler
    match way:
        case None:
            return None
        case "joint":
            return Refining(refiner, way, switch, sampler, run)
        case "alone":
            return Refining(refiner, way, switch, sampler, whole)
        case "separate":
            before = replace(run, sigmas=run.sigmas[: switch + 1])
            after = replace(whole, sigmas=whole.sigmas[switch:])
            left = [left_after(each, spec.sampler, before) for each in noise]
            return Refining(refiner, way, switch, sampler, before, after, left)
    before = replace(run, sigmas=torch.cat([run.sigmas[:switch], run.sigmas.new_zeros(1)]))
    after = replace(whole, sigmas=HOTTER * whole.sigmas[switch:])
    shape, around = tuple(noise[0].first.shape), inputs.hole is not None
    anew = [
        draw_noise(sampler, after, shape, (seed + 1) % (MAX_SEED + 1), around=around).on(device) for seed in spec.seeds
    ]
    return Refining(refiner, way, switch, sampler, before, after, anew)


def refiner_guide(guide: Guide, refiner: Refiner, size: Size, device: Device) -> Guide:
    """The guide of a picture's base, for its refiner: the same prompts, as it reads them, and what it is told of the
    size, but nothing else that acts on the base."""
    negative = guide.negative
    return replace(
        guide.on(refiner.unet, refiner.group),
        positive=refiner.reads(guide.positive),
        negative=None if negative is None else refiner.reads(negative),
        sizes=_told(refiner, size, device),
        prediction="epsilon",
        table=refiner.table,
    )


def refined_leads(guide: Guide, refining: Refining, size: Size, device: Device) -> Leads:
    """Who leads when. guide: of the base. size: of the picture."""
    refined = refiner_guide(guide, refining.refiner, size, device)
    match refining.way:
        case "joint":
            return Leads(guide, Swap(refined, refining.switch))
        case "alone":
            return Leads(refined)
        case _:
            return Leads(guide, second=refined)


def led_by(noise: Tensor, implied: Tensor) -> Tensor:
    """Noise (channels, h, w) whose mean over the channels, place by place, is that of what the base's last evaluation
    took for noise."""
    return noise + implied.mean(dim=0, keepdim=True) - noise.mean(dim=0, keepdim=True)


def _told(refiner: Refiner, size: Size, device: Device) -> SizeIds:
    """SDXL's: height, width, what is cropped, and how well it looks. The other kind is told nothing."""
    if refiner.own is not None:
        nothing = device.upload(torch.zeros(0))
        return SizeIds(nothing, nothing, nothing)
    place = float(size.height), float(size.width), 0.0, 0.0
    both = device.upload(torch.tensor([[*place, POSITIVE_SCORE], [*place, NEGATIVE_SCORE]]))
    return SizeIds(both[0], both[0], both[1], emphasised_above=-1)
