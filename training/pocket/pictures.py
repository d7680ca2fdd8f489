"""Trains the UNet to draw what captions say, on latents that are averages over 8 x 8 pixels (as the VAE's are).

Small pictures come first: an average means the same at every size, colours and places are told under strong noise,
where size matters least, and a step at 128 costs a quarter of one at 256.
"""

import math
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.pocket.reader import Reader
from benchmarks.pocket.sampling import predict, score
from benchmarks.pocket.world.captions import caption
from models.pocket import shapes
from pipelines.denoising.schedules import sdxl_table
from training.pocket.dataset import Drawn, levels, noise_like, things, weight
from training.pocket.distributed import DistributedGroup
from training.pocket.init_weights import CARRIERS, carry_input
from training.pocket.run_dir import Average, RunDir


@dataclass(frozen=True, slots=True)
class Stage:
    """Some steps of the training.

    sides: those it draws from at random, the first is scored. rates: of learning, from its first step to its last.
    tokens: of a context. things: what a pixel of a thing counts for beside one of the background, of which there are
    ten times as many. Above 1 the UNet learns sooner which colour and shape a thing has, but where it is unsure it sees
    things too gladly; so later stages have less.
    noise: the levels (sigma) it learns at, spread evenly by their logarithm; without, all the timesteps evenly, of
    which half are noise so weak that everything can be seen. complete: share of captions that leave nothing out.
    snr_cap: of min-SNR's weight (Hang et al. 2023). A greater one lets weak noise count more: fine grain is what it
    leaves in a picture.
    """

    steps: int
    sides: tuple[int, ...]
    rates: tuple[float, float]
    tokens: int = 77
    things: float = 1.0
    noise: tuple[float, float] | None = None
    complete: float = 0.0
    snr_cap: float = 4.0


STAGES = (
    Stage(1_000, (128,), (1e-3, 8e-4), tokens=32, things=5.0),
    Stage(5_500, (256,), (8e-4, 1e-4), tokens=32, things=5.0, noise=(0.5, 14.0), complete=0.7),
    Stage(2_000, (256, 256, 512, 1024), (3e-4, 3e-5), snr_cap=25.0),
    Stage(1_200, (*[256] * 6, 512, 1024), (2e-4, 1e-5), things=2.0, noise=(0.05, 14.0), complete=0.5, snr_cap=25.0),
)
BATCHES: Mapping[int, int] = {128: 64, 256: 48, 512: 12, 1024: 4}
WARM_UP = 200
EMPHASISED, EMPHASIS = 0.5, (0.8, 1.5)  # share of pictures whose original size is told wrong, and as which multiple
CAREFUL = 0.03  # share of the rate for the layers that carry the input: a small change of theirs shifts every answer
UNSAID = 0.1  # share of pictures without a caption, for guidance
UNPOOLED = 0.15  # share of pictures whose caption's pooled vector is kept back, so that tokens are attended to
TRIED, TRIED_STEPS = 40, 14
KEPT_EVERY, LOGGED_EVERY, SCORED_EVERY = 120.0, 50, 500  # seconds, steps, steps


def train(run_dir: RunDir, reader: Reader, group: DistributedGroup) -> None:
    """Leaves `unet.pt`, the average of the UNet's weights, in the run's folder."""
    unet = begin().to(run_dir.device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=STAGES[0].rates[0], weight_decay=0.01, betas=(0.9, 0.99))
    carriers = Carriers(unet)
    average = Average(unet, 0.998)
    begun = 0
    if state := run_dir.resume():
        unet.load_state_dict(state["unet"])
        if "optimizer" in state:
            optimizer.load_state_dict(state["optimizer"])
        average.weights = state["average"]
        begun = state["step"]
    drawn: dict[int, Drawn] = {}
    sigmas = sdxl_table().sigmas.to(run_dir.device)
    seen: list[float] = []
    kept = time.monotonic()
    total = sum(stage.steps for stage in STAGES)
    for step in range(begun, total):
        stage = _stage(step)
        side = random.Random(step).choice(stage.sides)
        chance = random.Random(step * group.size + group.rank)
        torch.manual_seed(step * group.size + group.rank)
        if side not in drawn:
            drawn = {side: drawn[side] for side in drawn if side in stage.sides}
            drawn[side] = Drawn.of(run_dir, side, side)
        for settings in optimizer.param_groups:
            settings["lr"] = _rate(step)
        optimizer.zero_grad()
        with sdpa_kernel(SDPBackend.MATH):  # for so few tokens half the time of the fused one, backwards
            loss = _lesson(unet, reader, drawn[side], group.share(BATCHES[side]), stage, sigmas, chance)
            loss.backward()  # type: ignore[no-untyped-call]
        group.average_gradients(unet)
        nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        with carriers.moved_with_care():
            optimizer.step()
        average.follow(unet, step)
        seen.append(float(loss.detach()))
        done = step + 1
        if not group.leads:
            continue
        if done % LOGGED_EVERY == 0:
            run_dir.log(done, side=side, loss=sum(seen) / len(seen))
            seen = []
        if done % SCORED_EVERY == 0 or done == total:
            torch.save(average.weights, run_dir.folder / "unet.pt")
            run_dir.log(done, side=stage.sides[0], **_score(average, reader, stage, run_dir))
        if time.monotonic() - kept > KEPT_EVERY or done == total:
            held = {"unet": unet.state_dict(), "optimizer": optimizer.state_dict()}
            run_dir.save({**held, "average": average.weights, "step": done})
            kept = time.monotonic()


def begin() -> Any:
    """An untrained UNet that calls all it sees noise: nearly right under strong noise, and what is left to learn is
    the picture. Without it, the precision that a strong noise's share needs is learned first, and captions late."""
    unet: Any = UNet2DConditionModel.from_config(dict(shapes.UNET))
    carry_input(unet, torch.Generator().manual_seed(1))
    return unet


class Carriers:
    """The parts of the outermost layers that carry the input: a small change of theirs shifts every answer."""

    def __init__(self, unet: Any) -> None:
        entry, norm, end = unet.conv_in, unet.conv_norm_out, unet.conv_out
        first = slice(CARRIERS)
        self._parts = [entry.weight[first], entry.bias[first], norm.weight[first], norm.bias[first]]
        self._parts += [end.weight[:, first], end.bias]

    @contextmanager
    @torch.no_grad()
    def moved_with_care(self) -> Iterator[None]:
        """Inside, an optimizer steps: they go only `CAREFUL` of the way."""
        before = [part.clone() for part in self._parts]
        yield
        for part, old in zip(self._parts, before, strict=True):
            part.copy_(old.lerp(part, CAREFUL))


def _lesson(
    unet: Any, reader: Reader, drawn: Drawn, batch: int, stage: Stage, sigmas: Tensor, chance: random.Random
) -> Tensor:
    """The loss of one batch."""
    chosen = chance.sample(range(len(drawn.scenes)), batch)
    said = [
        "" if chance.random() < UNSAID else caption(drawn.scenes[at], chance, complete=chance.random() < stage.complete)
        for at in chosen
    ]
    clean = drawn.latents[chosen].to(sigmas.device).float()
    noise = noise_like(clean)
    timesteps = _timesteps(batch, stage, sigmas)
    sigma = sigmas[timesteps][:, None, None, None]
    x = (clean + sigma * noise) / (1 + sigma**2).sqrt()
    context, pooled = reader(said, stage.tokens)
    kept_back = torch.tensor([chance.random() < UNPOOLED for _ in chosen], device=sigmas.device)
    pooled = torch.where(kept_back[:, None], reader([""], stage.tokens)[1], pooled)
    emphasis = torch.tensor([chance.uniform(*EMPHASIS) if chance.random() < EMPHASISED else 1.0 for _ in chosen])
    with torch.autocast(sigmas.device.type, torch.bfloat16):
        eps = predict(unet, x, timesteps, context, pooled, emphasis.to(sigmas.device))
    counts = 1 + (stage.things - 1) * things(clean)
    error = ((eps.float() - noise).square().mean(dim=1) * counts).sum(dim=(1, 2)) / counts.sum(dim=(1, 2))
    return (weight(sigma.flatten(), stage.snr_cap) * error).mean()


def _timesteps(count: int, stage: Stage, sigmas: Tensor) -> Tensor:
    if stage.noise is None:
        return torch.randint(0, len(sigmas), (count,), device=sigmas.device)
    return levels(*(torch.full((count,), level, device=sigmas.device) for level in stage.noise))[0]


def _stage(step: int) -> Stage:
    for stage in STAGES:
        if step < stage.steps:
            return stage
        step -= stage.steps
    raise ValueError("no stage has as many steps")


def _rate(step: int) -> float:
    stage, before = _stage(step), 0
    for earlier in STAGES[: STAGES.index(stage)]:
        before += earlier.steps
    first, last = stage.rates
    rate = last + (first - last) * (1 + math.cos(math.pi * (step - before) / stage.steps)) / 2
    return rate * min(1.0, (step + 1) / WARM_UP)


def _score(average: Average, reader: Reader, stage: Stage, run_dir: RunDir) -> dict[str, float]:
    unet: Any = UNet2DConditionModel.from_config(dict(shapes.UNET)).to(run_dir.device).eval()
    unet.load_state_dict(average.weights)
    return score(unet, reader, stage.sides[0], TRIED, TRIED_STEPS, stage.tokens)
