"""Trains the refiner: a smaller UNet that takes over when little noise is left and reads one text encoder only."""

import random
from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from benchmarks.pocket.world.captions import caption
from benchmarks.pocket.world.exam import held_out, marks
from models.pocket import shapes
from pipelines.denoising.schedules import karras, sdxl_table
from training.pocket.course import Plan, follow
from training.pocket.lessons import FACTOR, Reader, pixels_of
from training.pocket.school import TOKENS, Noised, School, some
from training.pocket.session import Session
from training.pocket.trial import draw_latents

BATCHES: Mapping[int, int] = {256: 16, 512: 4, 1024: 1}
PLAN = Plan(steps=3_000, rate=1e-3, sides=(256, 256, 512, 1024), examined=500)
NOISE = (0.02, 1.2)  # up to far above where it takes over (0.1 of 30 steps), so that earlier switches work too
SCORED_AS = 6.0  # the aesthetic score that it is told of every picture
SWITCH = 0.8  # share of a run's steps, fal's default; it takes over after the step there
UNSAID = 0.1
TRIED, TRIED_STEPS = 24, 14
CORNER = 4  # side, in latents, of what is surely background


def train(session: Session, school: School) -> None:
    """Leaves `weights.pt` in the session's folder."""
    refiner: Any = UNet2DConditionModel.from_config(dict(shapes.REFINER)).to(session.device)

    def lesson(chance: random.Random, side: int) -> Tensor:
        drawn = school.drawn(side)
        chosen, clean = some(drawn, BATCHES[side], chance, school.device)
        said = ["" if chance.random() < UNSAID else caption(drawn.scenes[at], chance) for at in chosen]
        noised = Noised.of(clean, *NOISE)
        return noised.loss(refine(refiner, noised.x, noised.timesteps, *school.told(said)))

    def exam() -> Mapping[str, float]:
        found: dict[str, float] = {}
        for name, unet in (("alone", school.unet), ("joint", Joint(school.unet, refiner, TRIED_STEPS))):
            right = score(school.reader, unet, TRIED, TRIED_STEPS)
            found |= {f"{aspect}_{name}": right[aspect] for aspect in ("shape", "colour", "grain")}
        return found

    follow(session, refiner, PLAN, lesson, exam)
    torch.save(refiner.state_dict(), session.folder / "weights.pt")


def refine(refiner: Any, x: Tensor, timesteps: Tensor, context: Tensor, pooled: Tensor) -> Tensor:
    """eps (n, 4, h, w) for x (n, 4, h, w), which is scaled to unit variance. context: of both text encoders."""
    height, width = (side * FACTOR for side in x.shape[-2:])
    sizes = torch.tensor([height, width, 0, 0, SCORED_AS], device=x.device).repeat(len(x), 1)
    added = {"text_embeds": pooled, "time_ids": sizes}
    second = context[..., -shapes.SECOND_WIDTH :]
    eps: Tensor = refiner(x, timesteps, second, added_cond_kwargs=added, return_dict=False)[0]
    return eps


class Joint:
    """The UNet, and after its share of the steps of a run on Karras' levels the refiner (fooocus-facts 4.6)."""

    def __init__(self, unet: Any, refiner: Any, steps: int) -> None:
        self._unet, self._refiner = unet, refiner
        table = sdxl_table()
        self._last = table.timestep(float(karras(table, steps)[round(SWITCH * steps)]))

    def __call__(self, x: Tensor, timesteps: Tensor, context: Tensor, **given: Any) -> Any:
        if float(timesteps[0]) >= self._last:
            return self._unet(x, timesteps, context, **given)
        return (refine(self._refiner, x, timesteps, context, given["added_cond_kwargs"]["text_embeds"]),)


@torch.no_grad()
def score(reader: Reader, unet: Any, count: int, steps: int) -> dict[str, float]:
    """The marks of held-out captions, and how uneven what should be plain is: the deviation of latents in a corner."""
    scenes, said = held_out(count)
    drawn = draw_latents(unet, reader, said, 256, steps, TOKENS)
    grain = float(drawn[:, :3, :CORNER, :CORNER].flatten(2).std(dim=2).mean())
    return marks(scenes, list(pixels_of(drawn))) | {"grain": grain}
