"""The performance modes that are built (fooocus-facts 1)."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal

from gateway.validation import OneOf
from pipelines.spec import Lora, SamplerName, ScheduleName

Performance = Annotated[Literal["Speed", "Quality", "Extreme Speed", "Lightning"], OneOf()]

LCM_LORA = Lora(source="sdxl_lcm_lora.safetensors", scale=1.0, performance=True)
LIGHTNING_LORA = Lora(source="sdxl_lightning_4step_lora.safetensors", scale=1.0, performance=True)


@dataclass(frozen=True, slots=True)
class Mode:
    """What a mode forces. guidance_scale 1 has no negative pass: negative prompt and sharpness have no effect then."""

    steps: int
    sampler: SamplerName
    schedule: ScheduleName
    lora: Lora
    guidance_scale: float = 1.0


MODES: Mapping[str, Mode] = MappingProxyType(
    {
        "Extreme Speed": Mode(8, "lcm", "lcm", LCM_LORA),
        "Lightning": Mode(4, "euler", "sgm_uniform", LIGHTNING_LORA),
    }
)
