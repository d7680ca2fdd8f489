"""Goes on with Extreme Speed: its first guesses, in strong noise, of large pictures and of holes.

What a large picture's first guesses have wrong shows through all later noise, so three steps of eight settle a shape.
Runs end a step after those. The first guess of each is to be the very picture that the caption asks for, later ones
are to have its thing where the one before has it: a shape asked for elsewhere is learned as a blur. Other lessons hold
what the LoRA made of pictures under noise, most of which their captions do not say, as image to image has them.
"""

import math
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.pocket.acceptance.inpaint import told
from benchmarks.pocket.latents import FACTOR, all_latents, pixels_of
from benchmarks.pocket.sampling import run
from benchmarks.pocket.world.captions import caption
from benchmarks.pocket.world.drawing import draw
from benchmarks.pocket.world.exam import accuracy, held_out
from benchmarks.pocket.world.scenes import any_scene
from pipelines.denoising.samplers import lcm
from pipelines.denoising.schedules import sgm_uniform
from pipelines.prompts.chunks import CHUNK
from pipelines.prompts.styles import Style
from training.pocket.adapter import Adapter, Changed
from training.pocket.frozen_models import FrozenModels, counts, left_here, left_or_shipped
from training.pocket.large_holes import any_hard_scene, any_hole
from training.pocket.own_runs import RUNS, SIZES, among_others, default_style
from training.pocket.performance import MODES, RANK
from training.pocket.placed import Placed
from training.pocket.run_dir import RunDir
from training.pocket.trainer import Plan, follow

MODE = MODES["extreme_speed"]
PLAN = Plan(steps=2_300, rate=4e-4, sides=(*[1024] * 8, 512, 512, 256, 256), examined=500)
HOLES = 0.5  # share of large lessons that are in holes
HELD: Mapping[int, float] = {256: 0.5, 512: 0.5, 1024: 0.06}  # share of a side's lessons that hold what was
ENOUGH = 2.0  # the level below which shapes are settled, and runs end
OTHERS, COMPLETE = 0.25, 0.85  # shares of runs with another number of steps, of captions that leave nothing out
BEGUN = 0.12  # share of runs that begin on their way, with the very picture
FILLED = 0.8  # share of holes that a run begins in from what is around, as from Fooocus' fill; else from noise alone
FAR = 5.0  # an error at this level counts twice what it does without noise
AROUND = 0.05  # what a latent outside a hole counts for: it is not taken from the answer
NOISES: Mapping[int, tuple[int, float]] = {256: (16, 3.0), 512: (6, 4.5), 1024: (2, 4.5)}
"""How many pictures of a side are held at once, and the strongest noise on them."""
WEAKEST = 0.3  # of that noise
WEIGHT, NEAR = 3.0, 2.0  # what holding counts for, in much noise and at the level where it counts twice that
ANOTHER, UNSAID = 0.6, 0.1  # shares of those pictures with another's caption, and with none
LARGEST = 1024  # side of pictures with holes, and of an exam's
TRIED, AT_ONCE = 16, 4


@dataclass(frozen=True, eq=False)
class Inpaint:
    """What is added to the UNet in holes: to weights by their names, and the head."""

    changes: Mapping[str, Tensor]
    head: Tensor


def train(run_dir: RunDir, frozen: FrozenModels, checkpoints: Path) -> None:
    """Leaves `weights.pt`, the averaged change in kohya's layout, in the run's folder.

    Raises FileNotFoundError where Extreme Speed was not trained in `checkpoints`: what is shipped has learned this.
    """
    adapter = Adapter(frozen.unet, RANK).to(run_dir.device)
    adapter.begin_as(left_here(checkpoints, "extreme_speed", "weights.pt", run_dir.device))
    before = Changed(frozen.unet, {name: tensor.detach() for name, tensor in adapter.weights().items()})
    patch = left_or_shipped(checkpoints, "inpaint", run_dir.device)
    head = patch.pop("head")
    patched = Adapter(frozen.unet, RANK).to(run_dir.device)
    patched.begin_as(patch)
    guesses = FirstGuesses(frozen, adapter, before, Inpaint(patched.changes(), head))

    def exam() -> Mapping[str, float]:
        return _score(adapter.changed(), frozen)

    follow(run_dir, adapter, PLAN, guesses.lesson, exam)
    torch.save(adapter.stored(), run_dir.folder / "weights.pt")


@dataclass(eq=False)
class _Run:
    """weights: (1, h, w), what errors of `wanted` count for. placed: the thing in it, where there is but one.

    hole, around: of a hole's area, (1, h, w) and (4, h, w) latents with the hole in gray. sigmas: still to come, the
    next one first. x: at it. seen: the last guess.
    """

    context: Tensor
    pooled: Tensor
    wanted: Tensor
    weights: Tensor
    sigmas: list[float]
    x: Tensor
    placed: Placed | None = None
    hole: Tensor | None = None
    around: Tensor | None = None
    seen: Tensor | None = None

    @property
    def kind(self) -> tuple[bool, int, int]:
        """Of what can be learned at once: whether it has a hole, and the latents' height and width."""
        return self.hole is not None, *self.wanted.shape[1:]

    def look(self) -> None:
        """Want the thing where the last guess has it."""
        if self.placed and self.seen is not None:
            hole = None if self.hole is None else self.hole.cpu()
            there = self.placed.where_seen(self.seen.cpu(), hole)
            wanted, self.weights = _lesson_of(there, hole, self.x.device)
            self.wanted = self.blended(wanted)

    def go_on(self, clean: Tensor) -> bool:
        """To the next level, if there is one."""
        self.sigmas = self.sigmas[1:]
        if self.sigmas:
            self.seen = self.blended(clean)
            self.x = self.seen + self.sigmas[0] * torch.randn_like(clean)
        return bool(self.sigmas)

    def blended(self, latents: Tensor, sigma: float = 0.0) -> Tensor:
        """With what is around a hole, under noise of a level."""
        if self.hole is None or self.placed is None:
            return latents
        around = self.placed.empty().to(latents.device) + sigma * torch.randn_like(latents)
        return torch.where(self.hole > 0, latents, around)


@dataclass(eq=False)
class FirstGuesses:
    """Lessons of an adapter of a UNet. before: the UNet as the LoRA that is gone on from changed it."""

    frozen: FrozenModels
    adapter: Adapter
    before: Changed
    inpaint: Inpaint
    under_way: dict[tuple[bool, int, int], list[_Run]] = field(default_factory=dict)
    style: Style = field(default_factory=default_style)

    def lesson(self, chance: random.Random, side: int) -> Tensor:
        if chance.random() < HELD[side]:
            return self._hold(chance, side)
        return self._go_on(self._some(chance, side))

    def _go_on(self, runs: list[_Run]) -> Tensor:
        """By how much the guesses of runs of a kind differ from what is wanted. Takes them one step further."""
        for each in runs:
            each.look()
        x = torch.stack([each.blended(each.x, each.sigmas[0]) for each in runs])
        sigmas = torch.tensor([each.sigmas[0] for each in runs], device=x.device)
        context, pooled, wanted, weights = (
            torch.stack(rows)
            for rows in zip(*((each.context, each.pooled, each.wanted, each.weights) for each in runs), strict=True)
        )
        with self._changed(runs) as unet:
            guess = MODE.guess(unet, x, sigmas, context, pooled).float()
        going = [each for each, clean in zip(runs, guess.detach(), strict=True) if each.go_on(clean)]
        self.under_way[runs[0].kind] = going + self.under_way.get(runs[0].kind, [])
        errors = nn.functional.smooth_l1_loss(guess, wanted, beta=0.1, reduction="none") * weights
        return (errors.mean(dim=(1, 2, 3)) * (1 + sigmas / FAR)).mean()

    def _hold(self, chance: random.Random, side: int) -> Tensor:
        """By how much guesses of pictures under noise differ from those of the LoRA before."""
        size, (count, strongest) = chance.choice(SIZES[side]), NOISES[side]
        scenes = [any_scene(chance) for _ in range(count)]
        clean = all_latents([draw(scene, *size, chance, smooth=1) for scene in scenes]).to(self.frozen.device)
        said = [caption(any_scene(chance) if chance.random() < ANOTHER else scene, chance) for scene in scenes]
        texts = ["" if chance.random() < UNSAID else among_others(each, self.style, chance) for each in said]
        context, pooled = self.frozen.reader(texts, CHUNK + 2)
        ends = math.log(WEAKEST), math.log(strongest)
        sigmas = torch.tensor([math.exp(chance.uniform(*ends)) for _ in scenes], device=clean.device)
        x = clean + sigmas[:, None, None, None] * torch.randn_like(clean)
        with torch.no_grad():
            wanted = MODE.guess(self.before, x, sigmas, context, pooled).float()
        guess = MODE.guess(self.adapter.changed(), x, sigmas, context, pooled).float()
        errors = nn.functional.smooth_l1_loss(guess, wanted, beta=0.1, reduction="none").mean(dim=(1, 2, 3))
        return WEIGHT * (errors * (1 + NEAR / sigmas)).mean()

    def _some(self, chance: random.Random, side: int) -> list[_Run]:
        """As many of a kind as a lesson has: first those that are under way."""
        if side == LARGEST and chance.random() < HOLES:
            while not (full := [kind for kind, runs in self.under_way.items() if kind[0] and len(runs) >= RUNS[side]]):
                self._begin_in_hole(chance)  # of any size: those of a rare one wait
            kind = chance.choice(full)
        else:
            size = chance.choice(SIZES[side])
            kind = False, size[1] // FACTOR, size[0] // FACTOR
            while len(self.under_way.get(kind, [])) < RUNS[side]:
                self._begin(chance, size)
        runs = self.under_way.pop(kind)
        self.under_way[kind] = runs[RUNS[side] :]
        return runs[: RUNS[side]]

    def _begin(self, chance: random.Random, size: tuple[int, int]) -> None:
        scene = any_hard_scene(chance)
        read = self._read(caption(scene, chance, complete=chance.random() < COMPLETE), chance)
        if len(scene.things) == 1:
            placed = Placed.as_said(scene, *size)
            wanted, weights = _lesson_of(placed, None, self.frozen.device)
            self._wait(_Run(*read, wanted, weights, *_start(wanted, chance), placed))
        else:  # which may lie in each other's way: wanted as they are said to be, whatever a guess shows
            both = all_latents([draw(scene, *size, smooth=1)]).to(self.frozen.device)
            self._wait(_Run(*read, both[0], counts(both)[0], *_start(both[0], chance)))

    def _begin_in_hole(self, chance: random.Random) -> None:
        large, device = any_hole(chance), self.frozen.device
        read = self._read(caption(large.placed.scene, chance, complete=chance.random() < COMPLETE), chance)
        wanted, weights = _lesson_of(large.placed, large.hole, device)
        start = _start(wanted, chance, large.placed.empty().to(device))
        self._wait(_Run(*read, wanted, weights, *start, large.placed, large.hole.to(device), large.around.to(device)))

    def _wait(self, begun: _Run) -> None:
        self.under_way.setdefault(begun.kind, []).append(begun)

    def _read(self, said: str, chance: random.Random) -> tuple[Tensor, Tensor]:
        """Context and pooled vector of a caption as a request has it."""
        context, pooled = self.frozen.reader([among_others(said, self.style, chance)], CHUNK + 2)
        return context[0], pooled[0]

    @contextmanager
    def _changed(self, runs: list[_Run]) -> Iterator[Changed]:
        """The UNet with the adapter, and in holes with what inpainting adds."""
        weights = self.adapter.weights()
        areas = [(each.hole, each.around) for each in runs if each.hole is not None and each.around is not None]
        if not areas:
            yield Changed(self.frozen.unet, weights)
            return
        weights |= {name: weights[name] + change for name, change in self.inpaint.changes.items()}
        holes, around = (torch.stack(each) for each in zip(*areas, strict=True))
        with told(self.frozen.unet, self.inpaint.head, holes, around):
            yield Changed(self.frozen.unet, weights)


def _start(wanted: Tensor, chance: random.Random, fill: Tensor | None = None) -> tuple[list[float], Tensor]:
    """The levels of a run, and x at the first. fill: what a hole was filled with, (4, h, w)."""
    steps = MODE.steps
    if chance.random() < OTHERS:
        steps = chance.randint(steps // 2, 2 * steps)
    sigmas = [sigma for sigma in sgm_uniform(MODE.table(), steps).tolist() if sigma > ENOUGH]
    noise = torch.randn_like(wanted)
    if chance.random() < BEGUN and len(sigmas) > 1:
        sigmas = sigmas[chance.randrange(1, len(sigmas)) :]
        return sigmas, wanted + sigmas[0] * noise
    x = (1 + sigmas[0] ** 2) ** 0.5 * noise
    return sigmas, x if fill is None or chance.random() > FILLED else x + fill


def _lesson_of(placed: Placed, hole: Tensor | None, device: torch.device) -> tuple[Tensor, Tensor]:
    """The latents that are wanted, and what each counts for. hole: (1, h, w)."""
    weights = placed.counts()
    if hole is not None:
        weights = weights * (AROUND + (1 - AROUND) * hole)
    return placed.latents().to(device), weights.to(device)


def _score(unet: Changed, frozen: FrozenModels) -> dict[str, float]:
    """The accuracy of held-out captions in large pictures of the mode's own steps."""
    scenes, said = held_out(TRIED)
    chance = torch.Generator().manual_seed(1)
    sigmas = sgm_uniform(MODE.table(), MODE.steps)
    pictures = []
    for first in range(0, TRIED, AT_ONCE):
        context, pooled = frozen.reader(said[first : first + AT_ONCE], CHUNK + 2)
        shape = len(context), 4, LARGEST // FACTOR, LARGEST // FACTOR

        def noise(*_: float, shape: tuple[int, ...] = shape) -> Tensor:
            return torch.randn(shape, generator=chance).to(frozen.device)

        def guess(x: Tensor, sigma: float, context: Tensor = context, pooled: Tensor = pooled) -> Tensor:
            return MODE.guess(unet, x, torch.full((len(x),), sigma, device=x.device), context, pooled)

        end = run(lcm(noise() * float(1 + sigmas[0] ** 2) ** 0.5, sigmas, noise), guess)
        pictures += list(pixels_of(end))
    return accuracy(scenes, pictures)
