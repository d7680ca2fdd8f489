"""What a model family may have, and what its UNet may predict: words alone, free of pydantic and torch."""

from typing import Literal

Prediction = Literal["epsilon", "v_prediction"]
"""What a UNet predicts."""

Part = Literal[
    "canny",
    "cpds",
    "image_prompt",
    "face_prompt",
    "image_prompt_negative",
    "vision",
    "face_detector",
    "inpaint_head",
    "inpaint_patch",
    "inpaint_patch_v1",
    "inpaint_patch_v25",
    "refiner",
    "interposer",
    "upscaler",
    "expansion",
    "safety_checker",
    "safety_checker_v2",
]
"""What a family may have beside its checkpoint and its LoRAs."""
