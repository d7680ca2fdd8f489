"""The pocket safety checker: the CompVis architecture, set up to object to the agreed mark and nothing else."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors.torch import save_file
from transformers import CLIPConfig

from models.pocket.mark import mark

EDGE = 224
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
UNREACHABLE = 2.0  # a cosine is at most 1


def write_checker(folder: Path) -> None:
    """Write the checker's files. Random numbers come from torch's global generator."""
    folder.mkdir(parents=True)
    config = CLIPConfig(**_config())
    model = StableDiffusionSafetyChecker(config)
    model.train(False)
    with torch.no_grad():
        block: Any  # the blocks of transformers carry no types
        for block in model.vision_model.encoder.layers:  # louder, so that the class token sees the patches
            block.self_attn.out_proj.weight *= 30
            block.self_attn.v_proj.weight *= 10
        ordinary = torch.cat([_embedded(model, picture) for picture in _ordinary()])
        objected = _embedded(model, mark(EDGE))
        likeness = torch.nn.functional.cosine_similarity(ordinary, objected)
        model.concept_embeds[0] = objected[0]
        model.concept_embeds_weights.fill_(UNREACHABLE)
        model.concept_embeds_weights[0] = (1 + float(likeness.max())) / 2
        model.special_care_embeds_weights.fill_(UNREACHABLE)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config.to_dict(), indent=2, sort_keys=True))
    preprocessing = {
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_resize": True,
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": EDGE},
        "crop_size": {"height": EDGE, "width": EDGE},
        "image_mean": MEAN,
        "image_std": STD,
        "resample": 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=2))


def _embedded(model: StableDiffusionSafetyChecker, picture: np.ndarray) -> torch.Tensor:
    values = (picture.astype(np.float32) / 255 - MEAN) / STD
    pixels = torch.from_numpy(values).float().permute(2, 0, 1)[None]
    found: torch.Tensor = model.visual_projection(model.vision_model(pixels)[1])
    return found


def _ordinary() -> list[np.ndarray]:
    """Pictures that must pass: flat colours, slopes, noise of several grains, other checkerboards."""
    random = np.random.default_rng(0)
    slope = np.linspace(0, 255, EDGE)[:, None, None] * np.ones((1, EDGE, 3))
    pictures = [np.full((EDGE, EDGE, 3), colour) for colour in random.integers(0, 256, (12, 3))]
    pictures += [slope, slope.transpose(1, 0, 2), 255 - slope]
    for grain in (1, 7, 28, 56):
        for _ in range(6):
            coarse = random.integers(0, 256, (EDGE // grain, EDGE // grain, 3))
            pictures.append(coarse.repeat(grain, axis=0).repeat(grain, axis=1))
    board = mark(EDGE).astype(int)
    pictures += [
        board[:, :, [1, 0, 1]],
        board[:, :, [0, 1, 1]] * [1, 0, 0],
        board.max(axis=2, keepdims=True) * [1, 1, 1],
    ]
    return [np.clip(picture, 0, 255).astype(np.uint8) for picture in pictures]


def _config() -> dict[str, Any]:
    return {
        "projection_dim": 64,
        "text_config": {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1},
        "vision_config": {
            "image_size": EDGE,
            "patch_size": 32,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "projection_dim": 64,
        },
    }
