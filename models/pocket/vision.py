"""The vision tower of the pocket family: its configuration and its preprocessing, as transformers reads them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pipelines.weights.image_prompt import DEVIATION, EDGE, MEAN

VISION: Mapping[str, Any] = MappingProxyType(
    {
        "image_size": EDGE,
        "patch_size": 28,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "projection_dim": 64,
    }
)
PREPROCESSING: Mapping[str, Any] = MappingProxyType(
    {
        "crop_size": {"height": EDGE, "width": EDGE},
        "do_center_crop": False,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_resize": True,
        "image_mean": MEAN,
        "image_processor_type": "CLIPImageProcessor",
        "image_std": DEVIATION,
        "resample": 1,  # Lanczos
        "size": {"height": EDGE, "width": EDGE},
    }
)
