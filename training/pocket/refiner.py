"""Trains the refiner: a smaller UNet that takes over when little noise is left and reads one text encoder only."""

import random
from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from benchmarks.pocket.gates.refiner import Joint, refine, score
from benchmarks.pocket.world.captions import caption
from models.pocket import shapes
from training.pocket.course import Plan, follow
from training.pocket.school import Noised, School, some
from training.pocket.session import Session

BATCHES: Mapping[int, int] = {256: 16, 512: 4, 1024: 1}
PLAN = Plan(steps=3_000, rate=1e-3, sides=(256, 256, 512, 1024), examined=500)
NOISE = (0.02, 1.2)  # up to far above where it takes over (0.1 of 30 steps), so that earlier switches work too
UNSAID = 0.1
TRIED, TRIED_STEPS = 24, 14


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
