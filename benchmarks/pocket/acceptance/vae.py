"""Gate 1: pictures come back from the VAE."""

import random
from typing import Any

import torch

from benchmarks.pocket.acceptance.metric import Metric
from benchmarks.pocket.world.drawing import draw
from benchmarks.pocket.world.scenes import any_scene
from pipelines.weights.family import Family

WANTED = 0.015  # mean absolute error on -1 to 1: half of what a smooth enlargement of the latents has at 256 x 256


def gives_back(family: Family, side: int, count: int) -> list[Metric]:
    return [Metric(f"VAE, {side} x {side}: error", error(family.vae, side, count), WANTED, below=True)]


@torch.no_grad()
def error(vae: Any, side: int, count: int) -> float:
    """Mean absolute error on -1 to 1 of held-out pictures that went through the whole VAE."""
    errors = []
    for at in range(count):
        chance = random.Random(f"held out {at}")
        pixels = torch.tensor(draw(any_scene(chance), side, side, chance)).permute(2, 0, 1)[None]
        picture = pixels.float().to(vae.device) / 127.5 - 1
        drawn = vae.decode(vae.encode(picture).latent_dist.mode()).sample.clamp(-1, 1)
        errors.append(float((drawn - picture).abs().mean()))
    return sum(errors) / count
