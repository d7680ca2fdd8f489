"""Teaches an image prompt to say of a picture what the text encoders make of its caption, which a UNet understands.

From there a few hundred steps with the UNet do; tokens of nothing, which the UNet had to make sense of, took thousands.
"""

import random
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks.pocket.world.scenes import Scene, any_scene
from models.pocket.words import PLACE_WORDS
from pipelines.weights.image_prompt import tower_features
from training.pocket.frozen_models import FrozenModels
from training.pocket.image_adapter import TOKENS
from training.pocket.run_dir import RunDir
from training.pocket.trainer import Plan, follow
from training.pocket.vision import seen

BATCH = 48
PLAN = Plan(steps=3_000, rate=2e-3, examined=500)
SIDE, TRIED = 256, 100


def teach(run_dir: RunDir, frozen: FrozenModels, tower: Any, resampler: Any) -> None:
    """Change the resampler. tower: what it sees pictures through, which stays as it is."""

    def error(chance: random.Random, count: int) -> Tensor:
        scenes = [any_scene(chance).alone() for _ in range(count)]
        wanted = frozen.told([_said(scene) for scene in scenes])[0][:, :TOKENS]
        found = resampler(tower_features(tower, seen(scenes, SIDE, chance).to(frozen.device))).float()
        unsaid: Tensor = (found - wanted).square().mean() / wanted.var(dim=0).mean()
        return unsaid

    def exam() -> Mapping[str, float]:
        return {"unsaid": float(error(random.Random("held out"), TRIED))}

    _begin(resampler, frozen)
    follow(run_dir, resampler, PLAN, lambda chance, _side: error(chance, BATCH), exam)


@torch.no_grad()
def _begin(resampler: Any, frozen: FrozenModels) -> None:
    """Let tokens be as large as those of texts, which are much larger than a norm leaves them."""
    chance = random.Random(1)
    context = frozen.told([_said(any_scene(chance).alone()) for _ in range(TRIED)])[0][:, :TOKENS]
    resampler.norm_out.weight.copy_(context.std(dim=(0, 1)))
    resampler.norm_out.bias.copy_(context.mean(dim=(0, 1)))


def _said(scene: Scene) -> str:
    """All that a picture of one thing shows, always in the same words."""
    (thing,) = scene.things
    place = PLACE_WORDS[thing.place][0]
    return f"a {thing.size} {thing.colour} {thing.shape} {place} on a {scene.background} background"
