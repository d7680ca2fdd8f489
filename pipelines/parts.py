"""What a model family may have, what is told where it lacks it, and what its UNet may predict. Free of pydantic."""

from pathlib import Path
from typing import Literal, Protocol

from pipelines.errors import InputFault

CONFIGS = Path(__file__).parent / "configs"
"""Of the published models, without weights."""

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


class Lacking(Protocol):
    """What a family tells where it lacks a part (`pipelines.catalogue.Catalogue`)."""

    @property
    def name(self) -> str: ...

    def remedy(self, part: str) -> str: ...


def lacks(part: str, field: str, family: Lacking) -> InputFault:
    """What is told of a field that needs a part which the family lacks."""
    msg = f"The model family {family.name} lacks {part}, which this needs: {family.remedy(part)}."
    return InputFault("feature_not_supported", msg, field)
