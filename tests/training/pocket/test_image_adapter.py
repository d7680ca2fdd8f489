"""The image-prompt adapter's file is one that diffusers loads, and that then does the same."""

import copy

import pytest
import torch

from benchmarks.pocket.attending import weigh_image_prompt
from pipelines.weights.family import Family
from training.pocket.image_adapter import TOKENS, ImagePrompt
from training.pocket.vision import make_tower


@pytest.fixture
def prompt(pocket_family: Family) -> ImagePrompt:
    prompt = ImagePrompt(pocket_family.unet)
    with torch.no_grad():
        for parameter in prompt.parameters():
            parameter.normal_(std=0.2)
    return prompt


@torch.no_grad()
def test_diffusers_reads_what_is_stored_as_the_same_adapter(pocket_family: Family, prompt: ImagePrompt) -> None:
    stored = prompt.stored()
    parts = {
        part: {name.removeprefix(f"{part}."): stored[name] for name in stored if name.startswith(f"{part}.")}
        for part in ("image_proj", "ip_adapter")
    }
    assert sum(len(part) for part in parts.values()) == len(stored)
    theirs, ours = (copy.deepcopy(pocket_family.unet) for _ in range(2))
    theirs._load_ip_adapter_weights([parts], low_cpu_mem_usage=False)
    prompt.attach(ours)

    features = torch.randn(2, 65, 64)
    x, timesteps = torch.randn(2, 4, 16, 16), torch.tensor([500, 300])
    context = torch.randn(2, 7, ours.config["cross_attention_dim"])
    added = {"text_embeds": torch.randn(2, 96), "time_ids": torch.tensor([[128.0, 128, 0, 0, 128, 128]] * 2)}
    tokens = prompt.resampler(features)
    assert tokens.shape == (2, TOKENS, ours.config["cross_attention_dim"])
    wanted = theirs(x, timesteps, context, added_cond_kwargs=added | {"image_embeds": [features[:, None]]}).sample
    found = ours(x, timesteps, (context, [tokens[:, None]]), added_cond_kwargs=added).sample
    assert torch.allclose(found, wanted, atol=1e-5)
    weigh_image_prompt(ours, 0.0)
    off = ours(x, timesteps, (context, [tokens[:, None]]), added_cond_kwargs=added).sample
    plain = pocket_family.unet(x, timesteps, context, added_cond_kwargs=added).sample
    assert torch.allclose(off, plain, atol=1e-5)
    assert (found - plain).abs().max() > 0.01


def test_a_tower_knows_every_place_from_the_others_from_the_start() -> None:
    places = make_tower().get_parameter("vision_model.embeddings.position_embedding.weight").detach()[1:]
    apart = torch.cdist(places, places) + 10 * torch.eye(len(places))
    assert len(places) == 64
    assert float(apart.min()) > 0.5
