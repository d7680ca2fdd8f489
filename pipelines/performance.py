"""The performance modes, free of torch (fooocus-facts 1)."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from pipelines.spec import Guidance, Lora, SamplerName, ScheduleName, SizeEmphasis

PerformanceName = Literal["Speed", "Quality", "Extreme Speed", "Lightning"]

LCM_LORA = Lora(source="sdxl_lcm_lora.safetensors", scale=1.0, performance=True)
LIGHTNING_LORA = Lora(source="sdxl_lightning_4step_lora.safetensors", scale=1.0, performance=True)


SPEED_SAMPLER: SamplerName = "dpmpp_2m_sde"
SPEED_SCHEDULE: ScheduleName = "karras"
MIMICKED = 7.0  # "CFG mimicking from TSNR"
SIZES = SizeEmphasis(positive=1.5, negative=0.8, end=0.3)


@dataclass(frozen=True, slots=True)
class Mode:
    """How a mode denoises. lora: the one that makes few steps possible; with it the guidance is forced to 1.

    enlarged_steps: of drawing over an enlarged picture.
    """

    steps: int
    enlarged_steps: int
    sampler: SamplerName
    schedule: ScheduleName
    lora: Lora | None = None

    def guidance(self, scale: float, sharpness: float) -> Guidance:
        """The guidance of this mode for what the client asks for."""
        if self.lora is not None:
            return Guidance(scale=1.0)
        return Guidance(scale=scale, sharpness=sharpness, mimicked=MIMICKED, sizes=SIZES)


def _chosen(lora: Lora) -> Lora:
    """The LoRA of a mode: what asks for it is the client's field, which the fast endpoints do not have."""
    return lora.model_copy(update={"field": "performance"})


MODES: Mapping[PerformanceName, Mode] = MappingProxyType(
    {
        "Speed": Mode(30, 18, SPEED_SAMPLER, SPEED_SCHEDULE),
        "Quality": Mode(60, 36, SPEED_SAMPLER, SPEED_SCHEDULE),
        "Extreme Speed": Mode(8, 8, "lcm", "lcm", _chosen(LCM_LORA)),
        "Lightning": Mode(4, 4, "euler", "sgm_uniform", _chosen(LIGHTNING_LORA)),
    }
)
