"""Lessons in which a performance mode goes on from its own guesses, at all sizes that requests ask for.

What a first guess has wrong shows through the noise of later steps, the more the larger the picture is. So many runs
are under way at once, each at a step of its own; a lesson takes all of them one step further, and asks at each for the
very picture that the caption asks for. No step is computed only to get to another.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.pocket.latents import all_latents
from benchmarks.pocket.world.captions import caption
from benchmarks.pocket.world.drawing import draw
from benchmarks.pocket.world.scenes import any_scene
from models.pocket.style_words import STYLE_WORDS
from pipelines.denoising.schedules import sgm_uniform
from pipelines.prompts.chunks import CHUNK
from pipelines.prompts.styles import Style, read_styles
from training.pocket.frozen_models import FrozenModels, counts
from training.pocket.modes import Mode

SIZES: Mapping[int, tuple[tuple[int, int], ...]] = {
    256: ((256, 256), (256, 256), (320, 192), (192, 320)),
    512: ((512, 512), (512, 512), (672, 384), (384, 672)),
    1024: ((1024, 1024), (1024, 1024), (1344, 768), (1152, 896), (896, 1152)),
}
"""Widths and heights that a side stands for."""
RUNS: Mapping[int, int] = {256: 24, 512: 8, 1024: 4}
"""How many of a size are under way."""
OTHERS = 0.25  # share of runs with another number of steps than the mode's: half of it to twice
STYLED, EXPANDED = 0.4, 0.3  # shares of captions in the default style, and with words of the expansion
COMPLETE = 0.8  # share of captions that leave nothing out
FAR = 5.0  # an error at this level counts twice what it does without noise: what is settled there, stays
EARLY, GIVEN_UP = 5.0, 0.3  # the share of runs that end after a step at more than this level: there shapes are settled


def default_style() -> Style:
    """The one of the default styles that takes a prompt."""
    return read_styles()["Fooocus Sharp"]


def among_others(said: str, style: Style, chance: random.Random) -> str:
    """A caption as requests have it: mostly in a style, or with the expansion's words."""
    how = chance.random()
    if how < STYLED:
        return style.round(said)[0]
    if how < STYLED + EXPANDED:
        return ", ".join([said, *chance.sample(STYLE_WORDS, chance.randint(8, 24))])
    return said


@dataclass(eq=False)
class _Run:
    """sigmas: those that are still to come, the next one first. x: at it. wanted: (4, h, w), the very picture."""

    sigmas: list[float]
    x: Tensor
    wanted: Tensor
    context: Tensor
    pooled: Tensor


@dataclass(eq=False)
class OwnRuns:
    """Runs of a mode that are under way, by their size (width, height)."""

    frozen: FrozenModels
    mode: Mode
    under_way: dict[tuple[int, int], list[_Run]] = field(default_factory=dict)
    style: Style = field(default_factory=default_style)

    def lesson(self, unet: Any, chance: random.Random, side: int) -> Tensor:
        """By how much the guesses of a size's runs differ from the very pictures. Takes them one step further."""
        size = chance.choice(SIZES[side])
        runs = self._filled(size, RUNS[side], chance)
        x, wanted, context, pooled = (
            torch.stack(rows)
            for rows in zip(*((run.x, run.wanted, run.context, run.pooled) for run in runs), strict=True)
        )
        sigmas = torch.tensor([run.sigmas[0] for run in runs], device=x.device)
        guess = self.mode.guess(unet, x, sigmas, context, pooled)
        self.under_way[size] = [
            run for run, clean in zip(runs, guess.detach().float(), strict=True) if self._goes_on(run, clean, chance)
        ]
        errors = nn.functional.smooth_l1_loss(guess, wanted, beta=0.1, reduction="none") * counts(wanted)
        return (errors.mean(dim=(1, 2, 3)) * (1 + sigmas / FAR)).mean()

    def _filled(self, size: tuple[int, int], count: int, chance: random.Random) -> list[_Run]:
        runs = self.under_way.get(size)
        if runs is None:  # of a start: they differ in their step
            return [self._begin(size, chance, chance.random()) for _ in range(count)]
        return [*runs, *(self._begin(size, chance) for _ in range(count - len(runs)))]

    def _begin(self, size: tuple[int, int], chance: random.Random, done: float = 0.0) -> _Run:
        """done: the share of it that is over, with the very picture."""
        scene = any_scene(chance)
        said = caption(scene, chance, complete=chance.random() < COMPLETE)
        context, pooled = self.frozen.reader([among_others(said, self.style, chance)], CHUNK + 2)
        # Things that neither wander nor swell: of all that a caption can mean the mean is round.
        wanted = all_latents([draw(scene, *size, smooth=1)])[0].to(self.frozen.device)
        steps = self.mode.steps
        if chance.random() < OTHERS:
            steps = chance.randint(steps // 2, 2 * steps)
        sigmas = sgm_uniform(self.mode.table(), steps).tolist()[int(done * steps) :]
        x = self.mode.shown(sigmas[0]) * wanted + (1 + sigmas[0] ** 2) ** 0.5 * torch.randn_like(wanted)
        return _Run(sigmas, x, wanted, context[0], pooled[0])

    def _goes_on(self, run: _Run, clean: Tensor, chance: random.Random) -> bool:
        """To the run's next level, by LCM's sampler or Euler's; whether a step is to be made from there."""
        now, after = run.sigmas[:2]
        run.sigmas = run.sigmas[1:]
        run.x = clean + after * (torch.randn_like(clean) if self.mode.distilled else (run.x - clean) / now)
        return after > 0 and not (now > EARLY and chance.random() < GIVEN_UP)
