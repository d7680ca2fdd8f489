"""The configurations that ship are the published models': their sizes, and CLIP's own ids."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pipelines.parts import CONFIGS
from pipelines.prompts.tokenizer import WordTokenizer, tokenizers_of

VAE, FIRST, SECOND = 83_653_863, 123_060_480, 694_659_840
SIZES = {
    "sdxl_base": {"unet": 2_567_463_684, "vae": VAE, "text_encoder": FIRST, "text_encoder_2": SECOND},
    "sdxl_refiner": {"unet": 2_259_526_660, "vae": VAE, "text_encoder_2": SECOND},
    "sd15": {"unet": 859_520_964, "vae": VAE, "text_encoder": FIRST},
}
TEXTS = ("a photo of a cat", "naïve café, 2 lighthouses!!! (moody:1.2)", "日本の猫 😀 it's", "<|endoftext|> end")


def model_of(folder: Path) -> nn.Module:
    config: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
    with torch.device("meta"):
        match folder.name:
            case "unet":
                found: nn.Module = UNet2DConditionModel.from_config(config)
            case "vae":
                found = AutoencoderKL.from_config(config)
            case "text_encoder":
                found = CLIPTextModel(CLIPTextConfig(**config))
            case _:
                found = CLIPTextModelWithProjection(CLIPTextConfig(**config))
    return found


@pytest.mark.parametrize("model", SIZES)
def test_models_have_the_published_number_of_parameters(model: str) -> None:
    folders = sorted(path.parent for path in (CONFIGS / model).glob("*/config.json"))
    assert {each.name: sum(one.numel() for one in model_of(each).parameters()) for each in folders} == SIZES[model]


@pytest.mark.parametrize(("tokenizer", "pad"), [("tokenizer", 49407), ("tokenizer_2", 0)])
def test_transformers_reads_clips_ids(tokenizer: str, pad: int) -> None:
    found = CLIPTokenizer.from_pretrained(CONFIGS / "sdxl_base" / tokenizer, local_files_only=True)
    ids = found("a photo of a cat", padding="max_length", truncation=True).input_ids
    assert len(found) == 49_408
    assert ids == [49406, 320, 1125, 539, 320, 2368, 49407, *[pad] * 70]


@pytest.mark.parametrize("tokenizer", ["tokenizer", "tokenizer_2"])
def test_the_tokenizer_without_torch_agrees(tokenizer: str) -> None:
    folder = CONFIGS / "sdxl_base" / tokenizer
    stock = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    assert WordTokenizer(folder)(TEXTS) == [stock(text, add_special_tokens=False).input_ids for text in TEXTS]


def test_the_base_has_both_tokenizers() -> None:
    first, second = tokenizers_of(CONFIGS / "sdxl_base")
    assert first(["cat"]) == second(["cat"]) == [[2368]]
    assert first(["!"]) == [[256]]
    assert second(["!"]) == [[0]]  # it pads with it


def test_the_vocabulary_comes_with_its_notice() -> None:
    assert "Copyright (c) 2021 OpenAI" in (CONFIGS / "README.md").read_text()
