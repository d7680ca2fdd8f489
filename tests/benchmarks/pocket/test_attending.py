"""Image-prompt adapters: read into a UNet that then attends to pictures, as much as it is told to."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.pocket.attending import attach_image_prompt, weigh_image_prompt
from models.pocket import names
from pipelines.errors import WeightsFault
from pipelines.weights.family import Family


@torch.no_grad()
def test_pictures_count_as_much_as_they_are_told_to(pocket_family: Family, pocket_family_folder: Path) -> None:
    torch.manual_seed(1)
    unet: Any = copy.deepcopy(pocket_family.unet)
    resampler = attach_image_prompt(unet, pocket_family_folder / "image_prompt" / names.IMAGE_PROMPTS["image_prompt"])
    tokens = resampler(torch.randn(1, 65, 64))
    x, context = torch.randn(1, 4, 16, 16), torch.randn(1, 7, unet.config.cross_attention_dim)
    added = {"text_embeds": torch.randn(1, 96), "time_ids": torch.tensor([[128.0, 128, 0, 0, 128, 128]])}

    def change(weight: float) -> float:
        weigh_image_prompt(unet, weight)
        found = unet(x, torch.tensor([500]), (context, [tokens[:, None]]), added_cond_kwargs=added).sample
        plain = pocket_family.unet(x, torch.tensor([500]), context, added_cond_kwargs=added).sample
        return float((found - plain).abs().mean())

    off, little, twice = (change(weight) for weight in (0.0, 0.05, 0.1))
    assert off < 1e-5
    assert little > 0.001
    assert twice == pytest.approx(2 * little, rel=0.3)


def test_what_is_no_adapter_is_refused(pocket_family: Family, pocket_family_folder: Path, tmp_path: Path) -> None:
    unet: Any = copy.deepcopy(pocket_family.unet)
    path = tmp_path / "adapter.safetensors"
    tensors = load_file(pocket_family_folder / "image_prompt" / names.IMAGE_PROMPTS["image_prompt"])
    half = {name: tensor for name, tensor in tensors.items() if name.startswith("image_proj.")}
    for stored, said in ((half, "holds no"), ({**tensors, "other.weight": torch.zeros(1)}, "other.weight")):
        save_file(stored, path)
        with pytest.raises(WeightsFault, match=said):
            attach_image_prompt(unet, path)
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsFault, match="cannot be read"):
        attach_image_prompt(unet, path)
