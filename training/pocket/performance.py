"""Trains the LoRAs of the performance modes: pictures in 8 or 4 steps without guidance.

Each learns to see at once what the trained UNet, guided, draws in several steps from the same noise (small, where the
picture is large), and under weak noise what was there. Such a guess of the end can be noised again (LCM's sampler, 8
steps) or followed straight on (Euler's, 4 steps); so the two differ in the noise levels at which they are trained, in
how much of a picture there is at them, and in LCM's boundary condition.

First guesses are rounder than pictures, and who has seen only pictures under noise takes them for circles. So in other
lessons each goes on from where its own run has come to, towards the very picture that the caption asks for.
"""

import math
import random
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.pocket.latents import FACTOR, pixels_of
from benchmarks.pocket.sampling import SCALE, run
from benchmarks.pocket.world.captions import caption
from benchmarks.pocket.world.exam import accuracy, held_out
from pipelines.denoising.samplers import Noise, dpmpp_2m, euler, lcm
from pipelines.denoising.schedules import sdxl_table, sgm_uniform
from training.pocket.adapter import Adapter
from training.pocket.frozen_models import FrozenModels, counts, some
from training.pocket.modes import Mode, begins, end_of
from training.pocket.own_runs import OwnRuns
from training.pocket.run_dir import RunDir
from training.pocket.trainer import Plan, follow

OWN = 0.6  # share of lessons that go on from a run's own guesses
COMPLETE = 0.7  # share of captions that leave nothing out: of what goes unsaid a teacher's choice is learned as a blur
SMALL = 256  # the side at which the teacher draws, and the exam: larger pictures are averaged to it, which costs less
RANK = 16
BATCHES: Mapping[int, int] = {256: 8, 512: 4, 1024: 2}
PACE, NEAR = 2.6, 0.3  # the teacher takes two steps, and so many for each e-fold of a level above that
SEEN = 2.5  # the level, for pictures of 256, below which x shows what is there: that is the target, without a teacher
SHARP = 3.0  # the level at which errors begin to count for more: shapes become sharp below it, where errors are small
TRIED = 40


MODES: Mapping[str, Mode] = {
    "extreme_speed": Mode(8, True, Plan(steps=200, rate=2e-4, sides=(256, 256, 512, 1024), examined=50)),
    "lightning": Mode(4, False, Plan(steps=240, rate=5e-4, examined=60)),
}


def train(run_dir: RunDir, frozen: FrozenModels, mode: Mode) -> None:
    """Leaves `weights.pt`, the averaged change in kohya's layout, in the run's folder."""
    adapter = Adapter(frozen.unet, RANK).to(run_dir.device)
    levels, own = mode.levels(), OwnRuns(frozen, mode)

    def lesson(chance: random.Random, side: int) -> Tensor:
        if chance.random() < OWN:
            return own.lesson(adapter.changed(), chance, side)
        return _lesson(frozen, adapter, mode, chance, side, chance.choice(levels))

    def exam() -> Mapping[str, float]:
        return _score(adapter.changed(), frozen, mode)

    follow(run_dir, adapter, mode.plan, lesson, exam)
    torch.save(adapter.stored(), run_dir.folder / "weights.pt")


def _lesson(
    frozen: FrozenModels, adapter: Adapter, mode: Mode, chance: random.Random, side: int, sigma: float
) -> Tensor:
    """By how much the guess of the end differs from where the guided UNet comes to, or from what was there."""
    drawn = frozen.drawn(side)
    chosen, clean = some(drawn, BATCHES[side], chance, frozen.device)
    said = [caption(drawn.scenes[at], chance, complete=chance.random() < COMPLETE) for at in chosen]
    noise = torch.randn_like(clean)
    x = mode.shown(sigma) * clean + sigma * noise
    told, without = frozen.told(said), frozen.told([""] * len(said))
    times = side // SMALL
    if sigma < SEEN * times:
        wanted = clean
    else:
        small = nn.functional.avg_pool2d(x, times)
        level = sigma / times
        if begins(sigma):  # a small picture begins with as much noise as a large one
            small, level = small * times, sigma
        with torch.no_grad():
            wanted = _taught(frozen.unet, small, level, told, without)
        wanted = nn.functional.interpolate(wanted, scale_factor=float(times), mode="bilinear")
    errors = nn.functional.smooth_l1_loss(
        _guess(adapter.changed(), mode, told, x, sigma), wanted, beta=0.1, reduction="none"
    )
    return (1 + SHARP / sigma) * (errors * counts(wanted)).mean()


def _taught(unet: Any, x: Tensor, sigma: float, told: tuple[Tensor, Tensor], without: tuple[Tensor, Tensor]) -> Tensor:
    """Where the guided UNet comes to from x at sigma."""
    last = sdxl_table().sigma_min
    ramp = torch.linspace(0, 1, _taught_in(sigma))
    sigmas = torch.cat([(sigma ** (1 / 7) + ramp * (last ** (1 / 7) - sigma ** (1 / 7))) ** 7, torch.zeros(1)])

    def guided(at: Tensor, level: float) -> Tensor:
        both = (torch.cat(pair) for pair in zip(without, told, strict=True))
        unled, led = end_of(
            unet, torch.cat([at, at]), torch.full((2 * len(at),), level, device=at.device), *both
        ).chunk(2)
        return unled + SCALE * (led - unled)

    return run(dpmpp_2m(x, sigmas), guided)


def _taught_in(sigma: float) -> int:
    """In how many steps the teacher comes to the end: 12 from pure noise, where 4 find no background."""
    return round(2 + PACE * math.log(sigma / NEAR))


def _guess(unet: Any, mode: Mode, told: tuple[Tensor, Tensor], x: Tensor, sigma: float) -> Tensor:
    """What a run of the mode takes for the end at x, all of it at one level."""
    return mode.guess(unet, x, torch.full((len(x),), sigma, device=x.device), *told)


def _run(unet: Any, mode: Mode, told: tuple[Tensor, Tensor], sigmas: Tensor, noise: Noise) -> Tensor:
    """Where a run from noise alone comes to at the last of the levels."""
    x = noise(0.0, 0.0) * float(1 + sigmas[0] ** 2) ** 0.5
    sampler = lcm(x, sigmas, noise) if mode.distilled else euler(x, sigmas)
    return run(sampler, lambda at, sigma: _guess(unet, mode, told, at, sigma))


def _score(unet: Any, frozen: FrozenModels, mode: Mode) -> dict[str, float]:
    """The accuracy of held-out captions in the mode's own few steps."""
    scenes, said = held_out(TRIED)
    told = frozen.told(said)
    chance = torch.Generator().manual_seed(1)

    def noise(*_: float) -> Tensor:
        return torch.randn(TRIED, 4, SMALL // FACTOR, SMALL // FACTOR, generator=chance).to(frozen.device)

    end = _run(unet, mode, told, sgm_uniform(mode.table(), mode.steps), noise)
    return accuracy(scenes, list(pixels_of(end)))
