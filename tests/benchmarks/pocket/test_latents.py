"""Latents made without the VAE are those that the service has."""

import random

import pytest
import torch

from benchmarks.pocket.latents import latents_of, pixels_of
from benchmarks.pocket.world.drawing import draw
from benchmarks.pocket.world.scenes import any_scene
from pipelines.weights.family import Family


@pytest.mark.parametrize("side", [128, 512])
def test_latents_are_those_of_the_vae(pocket_family: Family, side: int) -> None:
    picture = draw(any_scene(random.Random(1)), side, side)
    pixels = torch.tensor(picture).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.inference_mode():
        encoded = pocket_family.vae.encode(pixels).latent_dist.mode()[0] * pocket_family.vae.config.scaling_factor
    assert (latents_of(picture) - encoded).abs().max() < 0.01


def test_latents_become_the_picture_that_they_came_from() -> None:
    picture = draw(any_scene(random.Random(1)), 256, 256)
    again = pixels_of(latents_of(picture)[None])[0]
    assert abs(again.astype(float) - picture).mean() < 6
