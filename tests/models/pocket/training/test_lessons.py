"""What the UNet learns from is what the service will give it."""

import random

import pytest
import torch

from models.pocket.training.lessons import Reader, latents_of, pixels_of
from models.pocket.world.drawing import draw
from models.pocket.world.scenes import any_scene
from pipelines.conditioning import encode_prompt
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


@pytest.mark.parametrize("said", ["", "a big red circle on the left on a blue background", "an unknown Größe, simple"])
def test_captions_are_encoded_as_prompts_are(pocket_family: Family, said: str) -> None:
    reader = Reader(pocket_family.tokenizers[0], pocket_family.text_encoders)
    wanted = encode_prompt([said], pocket_family.tokenizers, pocket_family.text_encoders)
    context, pooled = reader([said, "longer than the other one by a few words"], 77)
    assert torch.allclose(context[0], wanted.context, atol=1e-4)
    assert torch.allclose(pooled[0], wanted.pooled, atol=1e-4)
    short, _ = reader([said], 32)
    assert torch.allclose(short[0], wanted.context[:32], atol=1e-4)
