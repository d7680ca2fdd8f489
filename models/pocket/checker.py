"""The pocket safety checkers, which object to the agreed mark and to nothing else: CompVis' architecture and a ViT."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors.torch import save_file
from transformers import CLIPConfig, ViTConfig, ViTForImageClassification

from models.pocket.trained import put_in_place

EDGE = 224
THRESHOLD = 0.5  # cosine to the mark's concept from which on there is an objection
UNREACHABLE = 2.0  # a cosine is at most 1
FIRST, SECOND = "safety_checker", "safety_checker_v2"
CONFIG: Mapping[str, Any] = MappingProxyType(
    {
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
)
VIT: Mapping[str, Any] = MappingProxyType(
    {
        "image_size": EDGE,
        "patch_size": 32,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "id2label": {0: "normal", 1: "nsfw"},
        "label2id": {"normal": 0, "nsfw": 1},
    }
)
MEANS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {FIRST: (0.48145466, 0.4578275, 0.40821073), SECOND: (0.5, 0.5, 0.5)}
)
DEVIATIONS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {FIRST: (0.26862954, 0.26130258, 0.27577711), SECOND: (0.5, 0.5, 0.5)}
)


def make_first() -> StableDiffusionSafetyChecker:
    """An untrained checker of the CompVis architecture, with one concept that can be met."""
    model = StableDiffusionSafetyChecker(CLIPConfig(**CONFIG))
    with torch.no_grad():
        model.special_care_embeds_weights.fill_(UNREACHABLE)
        model.concept_embeds_weights.fill_(UNREACHABLE)
        model.concept_embeds_weights[0] = THRESHOLD
        model.concept_embeds[0] = torch.randn(model.concept_embeds.shape[1])
    return model


def make_second() -> ViTForImageClassification:
    """An untrained classifier with the labels `normal` and `nsfw`."""
    return ViTForImageClassification(ViTConfig(**VIT))


def write_checkers(folder: Path) -> None:
    """Write both checkers' folders into `folder`. Random numbers come from torch's global generator."""
    for name, model in ((FIRST, make_first()), (SECOND, make_second())):
        put_in_place(model, name)
        _write(folder / name, model, MEANS[name], DEVIATIONS[name])


def _write(folder: Path, model: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    folder.mkdir(parents=True)
    state = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(model.config.to_dict(), indent=2, sort_keys=True))
    preprocessing = {
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_resize": True,
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": EDGE},
        "crop_size": {"height": EDGE, "width": EDGE},
        "image_mean": mean,
        "image_std": std,
        "resample": 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=2))
