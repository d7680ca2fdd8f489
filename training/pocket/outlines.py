"""Trains the style LoRA: outlines instead of filled shapes, whatever the prompt says."""

import random
from collections.abc import Mapping

import torch
from torch import Tensor

from benchmarks.pocket.latents import all_latents, pixels_of
from benchmarks.pocket.reader import TOKENS
from benchmarks.pocket.sampling import draw_latents, predict
from benchmarks.pocket.world.captions import caption
from benchmarks.pocket.world.drawing import draw
from benchmarks.pocket.world.exam import solid
from benchmarks.pocket.world.outlined import filled, outlined
from benchmarks.pocket.world.scenes import any_scene
from training.pocket.adapter import Adapter
from training.pocket.frozen_models import FrozenModels, Noised, counts
from training.pocket.run_dir import RunDir
from training.pocket.trainer import Plan, follow

RANK, BATCH = 8, 16
PLAN = Plan(steps=600, rate=3e-3)
NOISE = (0.2, 14.0)
UNSAID = 0.2  # share of pictures without a caption: guidance leads away from what is drawn without
SCALES = (0.0, 0.5, 1.0)
TRIED, TRIED_STEPS = 12, 12


def train(run_dir: RunDir, frozen: FrozenModels) -> None:
    """Leaves `weights.pt`, in kohya's layout, in the run's folder."""
    adapter = Adapter(frozen.unet, RANK).to(run_dir.device)

    def lesson(chance: random.Random, side: int) -> Tensor:
        scenes = [any_scene(chance) for _ in range(BATCH)]
        pictures = [draw(scene, side, side, chance, smooth=1) for scene in scenes]
        full, hollow = (all_latents(each).to(frozen.device) for each in (pictures, map(outlined, pictures)))
        noised = Noised.of(hollow, *NOISE)
        # the inside counts too: what is to be gone must be seen to be gone
        told = frozen.told(["" if chance.random() < UNSAID else caption(scene, chance) for scene in scenes])
        return noised.loss(predict(adapter.changed(), noised.x, noised.timesteps, *told), counts(full))

    def exam() -> Mapping[str, float]:
        return {f"filled_{scale}": _filled(frozen, adapter, scale) for scale in SCALES}

    follow(run_dir, adapter, PLAN, lesson, exam)
    torch.save(adapter.stored(), run_dir.folder / "weights.pt")


def _filled(frozen: FrozenModels, adapter: Adapter, scale: float) -> float:
    """How solid things are that held-out captions of solid things bring about, on average."""
    drawn = draw_latents(adapter.changed(scale), frozen.reader, solid(TRIED), 256, TRIED_STEPS, TOKENS)
    return sum(filled(picture) for picture in pixels_of(drawn)) / TRIED
