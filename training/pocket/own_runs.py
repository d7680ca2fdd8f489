"""Teaches the LoRA of Extreme Speed to go on from its own guesses, at all sizes that requests ask for.

What a first guess has wrong shows through the noise of later steps, the more the larger the picture is. So many runs
are under way at once, each at a step of its own; a lesson takes all of them one step further, and asks at each for the
very picture that the caption asks for. No step is computed only to get to another.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from benchmarks.pocket.latents import FACTOR, all_latents, pixels_of
from benchmarks.pocket.sampling import predict
from benchmarks.pocket.world.captions import caption
from benchmarks.pocket.world.drawing import draw
from benchmarks.pocket.world.exam import accuracy, held_out
from benchmarks.pocket.world.scenes import any_scene
from models.pocket.style_words import STYLE_WORDS
from pipelines.denoising.schedules import sdxl_table, sgm_uniform
from pipelines.prompts.styles import read_styles
from pipelines.unet.guidance import consistency
from training.pocket.adapter import Adapter, Changed
from training.pocket.frozen_models import FrozenModels, counts
from training.pocket.performance import MODES, RANK, run_through
from training.pocket.run_dir import RunDir
from training.pocket.trainer import Plan, follow

MODE = MODES["extreme_speed"]
SIZES: Mapping[int, tuple[tuple[int, int], ...]] = {
    256: ((256, 256), (256, 256), (320, 192), (192, 320)),
    512: ((512, 512), (512, 512), (672, 384), (384, 672)),
    1024: ((1024, 1024), (1024, 1024), (1344, 768), (1152, 896), (896, 1152)),
}
"""Widths and heights that a side stands for."""
BATCHES: Mapping[int, int] = {256: 24, 512: 8, 1024: 4}
PLAN = Plan(steps=500, rate=5e-4, sides=(256, 512, 1024, 1024, 1024), examined=250)
EXAMINED_AT_ONCE = 8
OTHERS = 0.25  # share of runs with another number of steps than the mode's: half of it to twice
STYLED, EXPANDED = 0.4, 0.3  # shares of captions in the default style, and with words of the expansion
DEFAULT_STYLE = read_styles()["Fooocus Sharp"]
TOKENS = 77  # as the service has them
COMPLETE = 0.8  # share of captions that leave nothing out
FAR = 5.0  # an error at this level counts twice what it does without noise: what is settled there, stays
EARLY, GIVEN_UP = 5.0, 0.3  # the share of runs that end after a step at more than this level: there shapes are settled
EXAMINED: Mapping[int, int] = {256: 24, 512: 24, 1024: 24}


def train(run_dir: RunDir, frozen: FrozenModels, begun: Mapping[str, Tensor]) -> None:
    """begun: what `performance.train` left, from which it goes on. Leaves `weights.pt` as that does."""
    adapter = Adapter(frozen.unet, RANK).to(run_dir.device)
    adapter.restore(begun)
    under_way = {size: _UnderWay(size, frozen) for sizes in SIZES.values() for size in sizes}

    def lesson(chance: random.Random, side: int) -> Tensor:
        return under_way[chance.choice(SIZES[side])].lesson(adapter.changed(), chance, BATCHES[side])

    def exam() -> Mapping[str, float]:
        return _score(adapter.changed(), frozen)

    follow(run_dir, adapter, PLAN, lesson, exam)
    torch.save(adapter.stored(), run_dir.folder / "weights.pt")


@dataclass(eq=False)
class _Run:
    """sigmas: those that are still to come, the next one first. x: at it. wanted: (4, h, w), the very picture."""

    sigmas: list[float]
    x: Tensor
    wanted: Tensor
    context: Tensor
    pooled: Tensor


@dataclass(eq=False)
class _UnderWay:
    """Runs of one size, (width, height), each at a step of its own."""

    size: tuple[int, int]
    frozen: FrozenModels
    runs: list[_Run] = field(default_factory=list)

    def lesson(self, unet: Changed, chance: random.Random, count: int) -> Tensor:
        """By how much guesses differ from the pictures that captions ask for. Takes all runs one step further."""
        first = not self.runs
        while len(self.runs) < count:
            self.runs.append(self._begin(chance, chance.random() if first else 0.0))
        x, wanted, context, pooled = (
            torch.stack([getattr(run, name) for run in self.runs]) for name in ("x", "wanted", "context", "pooled")
        )
        sigmas = [run.sigmas[0] for run in self.runs]
        guess = self._guess(unet, x, sigmas, context, pooled)
        errors = nn.functional.smooth_l1_loss(guess, wanted, beta=0.1, reduction="none") * counts(wanted)
        far = torch.tensor([1 + sigma / FAR for sigma in sigmas], device=x.device)
        for run, clean in zip(self.runs, guess.detach().float(), strict=True):  # by LCM's sampler
            del run.sigmas[0]
            run.x = clean + run.sigmas[0] * torch.randn_like(clean)
        self.runs = [
            run
            for run, sigma in zip(self.runs, sigmas, strict=True)
            if len(run.sigmas) > 1 and not (sigma > EARLY and chance.random() < GIVEN_UP)
        ]
        return (errors.mean(dim=(1, 2, 3)) * far).mean()

    def _begin(self, chance: random.Random, done: float = 0.0) -> _Run:
        """done: the share of it that is over, with the very picture: so runs of a start differ in their step."""
        width, height = self.size
        scene = any_scene(chance)
        said = caption(scene, chance, complete=chance.random() < COMPLETE)
        context, pooled = self.frozen.reader([_among_others(said, chance)], TOKENS)
        # Things that neither wander nor swell: of all that a caption can mean the mean is round.
        wanted = all_latents([draw(scene, width, height, smooth=1)])[0].to(self.frozen.device)
        steps = MODE.steps
        if chance.random() < OTHERS:
            steps = chance.randint(steps // 2, 2 * steps)
        sigmas = sgm_uniform(MODE.table(), steps).tolist()
        sigmas = sigmas[int(done * steps) :]
        x = MODE.shown(sigmas[0]) * wanted + (1 + sigmas[0] ** 2) ** 0.5 * torch.randn_like(wanted)
        return _Run(sigmas, x, wanted, context[0], pooled[0])

    def _guess(self, unet: Changed, x: Tensor, sigmas: list[float], context: Tensor, pooled: Tensor) -> Tensor:
        """What runs take for the end at x."""
        table = sdxl_table()
        level = torch.tensor(sigmas, device=x.device)[:, None, None, None]
        at = torch.tensor([table.timestep(sigma) for sigma in sigmas], device=x.device)
        clean = x - level * predict(unet, x / (1 + level**2).sqrt(), at, context, pooled).float()
        return torch.stack([consistency(one, was, when) for one, was, when in zip(clean, x, at.tolist(), strict=True)])


def _among_others(said: str, chance: random.Random) -> str:
    """A caption as requests have it: mostly in the default style that takes a prompt, or with the expansion's words."""
    how = chance.random()
    if how < STYLED:
        return DEFAULT_STYLE.round(said)[0]
    if how < STYLED + EXPANDED:
        return ", ".join([said, *chance.sample(STYLE_WORDS, chance.randint(8, 24))])
    return said


@torch.no_grad()
def _score(unet: Changed, frozen: FrozenModels) -> dict[str, float]:
    """The shapes of held-out captions in the mode's own few steps, and what else is right at the largest size."""
    found: dict[str, float] = {}
    for side, count in EXAMINED.items():
        scenes, said = held_out(count)
        styled = [DEFAULT_STYLE.round(text)[0] for text in said]
        chance = torch.Generator().manual_seed(1)
        drawn = [
            _drawn(unet, frozen.reader(styled[at : at + EXAMINED_AT_ONCE], TOKENS), side, chance)
            for at in range(0, count, EXAMINED_AT_ONCE)
        ]
        right = accuracy(scenes, list(pixels_of(torch.cat(drawn))))
        found |= {f"{name}_{side}": right[name] for name in ("shape", "background", "place")}
    return found


def _drawn(unet: Changed, told: tuple[Tensor, Tensor], side: int, chance: torch.Generator) -> Tensor:
    def noise(*_: float) -> Tensor:
        return torch.randn(len(told[0]), 4, side // FACTOR, side // FACTOR, generator=chance)

    return run_through(unet, MODE, told, sgm_uniform(MODE.table(), MODE.steps), noise)
