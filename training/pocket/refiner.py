"""Trains the refiner: a smaller UNet that takes over when little noise is left and reads one text encoder only."""

import random
from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from benchmarks.pocket.acceptance.refiner import Joint, refine, score
from benchmarks.pocket.world.captions import caption
from models.pocket import shapes
from training.pocket.frozen_models import FrozenModels, Noised, some
from training.pocket.run_dir import RunDir
from training.pocket.trainer import Plan, follow

BATCHES: Mapping[int, int] = {256: 16, 512: 4, 1024: 1}
PLAN = Plan(steps=3_000, rate=1e-3, sides=(256, 256, 512, 1024), examined=500)
NOISE = (0.02, 1.2)  # up to far above where it takes over (0.1 of 30 steps), so that earlier switches work too
UNSAID = 0.1
TRIED, TRIED_STEPS = 24, 14


def train(run_dir: RunDir, frozen: FrozenModels) -> None:
    """Leaves `weights.pt` in the run's folder."""
    refiner: Any = UNet2DConditionModel.from_config(dict(shapes.REFINER)).to(run_dir.device)

    def lesson(chance: random.Random, side: int) -> Tensor:
        drawn = frozen.drawn(side)
        chosen, clean = some(drawn, BATCHES[side], chance, frozen.device)
        said = ["" if chance.random() < UNSAID else caption(drawn.scenes[at], chance) for at in chosen]
        noised = Noised.of(clean, *NOISE)
        return noised.loss(refine(refiner, noised.x, noised.timesteps, *frozen.told(said)))

    def exam() -> Mapping[str, float]:
        found: dict[str, float] = {}
        for name, unet in (("alone", frozen.unet), ("joint", Joint(frozen.unet, refiner, TRIED_STEPS))):
            right = score(frozen.reader, unet, TRIED, TRIED_STEPS)
            found |= {f"{aspect}_{name}": right[aspect] for aspect in ("shape", "colour", "grain")}
        return found

    follow(run_dir, refiner, PLAN, lesson, exam)
    torch.save(refiner.state_dict(), run_dir.folder / "weights.pt")
