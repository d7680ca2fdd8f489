"""Configurations that published files lack, of models that are loaded from a folder (fooocus-facts 5.2, 8.3)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pipelines.parts import Part

_PREPROCESSING: Mapping[str, Any] = MappingProxyType(
    {
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_resize": True,
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 224},
        "crop_size": {"height": 224, "width": 224},
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
    }
)
_VISION: Mapping[str, Any] = MappingProxyType(
    {
        "architectures": ["CLIPVisionModelWithProjection"],
        "model_type": "clip_vision_model",
        "hidden_act": "gelu",
        "hidden_size": 1280,
        "image_size": 224,
        "intermediate_size": 5120,
        "layer_norm_eps": 1e-05,
        "num_attention_heads": 16,
        "num_channels": 3,
        "num_hidden_layers": 32,
        "patch_size": 14,
        "projection_dim": 1024,
    }
)
_CHECKER: Mapping[str, Any] = MappingProxyType(
    {
        "architectures": ["StableDiffusionSafetyChecker"],
        "model_type": "clip",
        "projection_dim": 768,
        "text_config": {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_attention_heads": 12,
            "num_hidden_layers": 12,
            "projection_dim": 768,
        },
        "vision_config": {
            "hidden_act": "quick_gelu",
            "hidden_size": 1024,
            "image_size": 224,
            "intermediate_size": 4096,
            "num_attention_heads": 16,
            "num_hidden_layers": 24,
            "patch_size": 14,
            "projection_dim": 768,
        },
    }
)

CONFIGS: Mapping[Part, Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "vision": {"config.json": _VISION, "preprocessor_config.json": _PREPROCESSING},
        "safety_checker": {"config.json": _CHECKER, "preprocessor_config.json": _PREPROCESSING},
    }
)
"""By part, the files that a pull writes beside its weights: ViT-H/14, and CompVis' checker on ViT-L/14."""
