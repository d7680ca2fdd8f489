"""fal's published schemas, written down as literals (fal-protocol 9), and a few helpers of these tests."""

from typing import Any

import pytest

from gateway.endpoints import ENDPOINTS, Order
from gateway.errors import ModelError, ValidationErrors

ROOT = "fal-ai/fooocus"
IMAGE_PROMPT = "fal-ai/fooocus/image-prompt"
INPAINT = "fal-ai/fooocus/inpaint"
UOV = "fal-ai/fooocus/upscale-or-vary"
FAST = "fal-ai/fast-fooocus-sdxl"
FAST_I2I = "fal-ai/fast-fooocus-sdxl/image-to-image"

FOUR = (ROOT, IMAGE_PROMPT, INPAINT, UOV)
TWO = (FAST, FAST_I2I)

URL = "https://example.com/a.png"
OFFSET = (
    "https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/"
    "sd_xl_offset_example-lora_1.0.safetensors"
)

# the least that each endpoint accepts as valid
LEAST: dict[str, dict[str, Any]] = {
    ROOT: {},
    IMAGE_PROMPT: {"image_prompt_1": {}},
    INPAINT: {"inpaint_image_url": URL},
    UOV: {"uov_image_url": URL},
    FAST: {"prompt": "a fox"},
    FAST_I2I: {"prompt": "a fox", "image_url": URL},
}

SHARED = {
    "prompt": "",
    "negative_prompt": "",
    "styles": ["Fooocus Enhance", "Fooocus V2", "Fooocus Sharp"],
    "performance": "Extreme Speed",
    "guidance_scale": 4,
    "sharpness": 2,
    "aspect_ratio": "1024x1024",
    "num_images": 1,
    "loras": [{"path": OFFSET, "scale": 0.1, "force": False}],
    "refiner_model": "None",
    "refiner_switch": 0.8,
    "output_format": "jpeg",
    "sync_mode": False,
    "seed": None,
    "enable_safety_checker": True,
}
SLOTS = {"image_prompt_2": None, "image_prompt_3": None, "image_prompt_4": None}
FAST_SHARED = {
    "negative_prompt": "",
    "num_inference_steps": 8,
    "guidance_scale": 2,
    "guidance_rescale": 0,
    "seed": None,
    "num_images": 1,
    "embeddings": [],
    "enable_refiner": True,
    "enable_safety_checker": True,
    "safety_checker_version": "v1",
    "expand_prompt": True,
    "format": "jpeg",
    "request_id": "",
}

# every optional field of every endpoint with its default
DEFAULTS: dict[str, dict[str, Any]] = {
    ROOT: SHARED
    | {
        "control_image_url": None,
        "control_type": "PyraCanny",
        "control_image_weight": 1,
        "control_image_stop_at": 1,
        "inpaint_image_url": None,
        "mask_image_url": None,
        "mixing_image_prompt_and_inpaint": False,
    },
    IMAGE_PROMPT: SHARED
    | SLOTS
    | {
        "inpaint_image_url": None,
        "mask_image_url": None,
        "inpaint_mode": "Inpaint or Outpaint (default)",
        "inpaint_additional_prompt": "",
        "outpaint_selections": [],
        "mixing_image_prompt_and_inpaint": False,
        "uov_image_url": None,
        "uov_method": "Disabled",
        "mixing_image_prompt_and_vary_upscale": False,
    },
    INPAINT: SHARED
    | SLOTS
    | {
        "image_prompt_1": None,
        "mask_image_url": None,
        "inpaint_mode": "Inpaint or Outpaint (default)",
        "inpaint_additional_prompt": "",
        "outpaint_selections": [],
        "override_inpaint_options": False,
        "inpaint_disable_initial_latent": False,
        "inpaint_engine": "v2.6",
        "inpaint_strength": 1,
        "inpaint_respective_field": 0.618,
        "inpaint_erode_or_dilate": 0,
        "invert_mask": False,
        "mixing_image_prompt_and_inpaint": False,
    },
    UOV: SHARED
    | SLOTS
    | {
        "image_prompt_1": None,
        "uov_method": "Vary (Strong)",
        "mixing_image_prompt_and_vary_upscale": False,
    },
    FAST: FAST_SHARED | {"image_size": "square_hd"},
    FAST_I2I: FAST_SHARED
    | {"image_size": None, "strength": 0.95, "crop_output": False, "preserve_aspect_ratio": False},
}

REQUIRED = {
    ROOT: set[str](),
    IMAGE_PROMPT: {"image_prompt_1"},
    INPAINT: {"inpaint_image_url"},
    UOV: {"uov_image_url"},
    FAST: {"prompt"},
    FAST_I2I: {"prompt", "image_url"},
}

# (endpoints, field, least, greatest)
RANGES: list[tuple[tuple[str, ...], str, float, float]] = [
    (FOUR, "guidance_scale", 1, 30),
    (FOUR, "sharpness", 0, 30),
    (FOUR, "num_images", 1, 4),
    (FOUR, "refiner_switch", 0, 1),
    ((ROOT,), "control_image_weight", 0, 2),
    ((ROOT,), "control_image_stop_at", 0, 1),
    ((INPAINT,), "inpaint_strength", 0, 1),
    ((INPAINT,), "inpaint_respective_field", 0, 1),
    ((INPAINT,), "inpaint_erode_or_dilate", -64, 64),
    (TWO, "num_inference_steps", 1, 24),
    (TWO, "guidance_scale", 0, 20),
    (TWO, "num_images", 1, 8),
    ((FAST_I2I,), "strength", 0.05, 1),
]

IMAGE_PROMPT_TYPES = ["ImagePrompt", "PyraCanny", "CPDS", "FaceSwap"]
INPAINT_MODES = [
    "Inpaint or Outpaint (default)",
    "Improve Detail (face, hand, eyes, etc.)",
    "Modify Content (add objects, change background, etc.)",
]
UOV_METHODS = [
    "Disabled",
    "Vary (Subtle)",
    "Vary (Strong)",
    "Upscale (1.5x)",
    "Upscale (2x)",
    "Upscale (Fast 2x)",
]

# (endpoints, field, values)
ENUMS: list[tuple[tuple[str, ...], str, list[str]]] = [
    (FOUR, "performance", ["Speed", "Quality", "Extreme Speed", "Lightning"]),
    (FOUR, "refiner_model", ["None", "realisticVisionV60B1_v51VAE.safetensors"]),
    (FOUR, "output_format", ["png", "jpeg", "webp"]),
    ((ROOT,), "control_type", IMAGE_PROMPT_TYPES),
    ((IMAGE_PROMPT, INPAINT), "inpaint_mode", INPAINT_MODES),
    ((INPAINT,), "inpaint_engine", ["None", "v1", "v2.5", "v2.6"]),
    ((IMAGE_PROMPT, UOV), "uov_method", UOV_METHODS),
    (TWO, "safety_checker_version", ["v1", "v2"]),
    (TWO, "format", ["jpeg", "png"]),
]


def order(endpoint: str, **fields: Any) -> Order:
    """An order of the least input with these fields."""
    return ENDPOINTS[endpoint].order(LEAST[endpoint] | fields, "request-1", "http://localhost:8000")


def refused(endpoint: str, **fields: Any) -> tuple[ModelError, ...]:
    """The entries with which the least input with these fields is refused."""
    with pytest.raises(ValidationErrors) as caught:
        order(endpoint, **fields)
    return caught.value.errors


def accepted_by_schema(endpoint: str, **fields: Any) -> Any:
    """The input model's instance: valid, whether or not it can be drawn yet."""
    return ENDPOINTS[endpoint].input.model_validate(LEAST[endpoint] | fields)
