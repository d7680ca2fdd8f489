"""How a replica draws: settings, free of torch so that anybody may read them."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class DrawingSettings(BaseModel):
    """How a replica draws.

    family: the folder of a model family. threads: torch's threads on the CPU; None leaves torch's choice.
    variant_budget_mb: memory for merged weights besides the family's own. rows: the most rows in one UNet call.
    hang_after_s: a single call that takes longer means that the engine hangs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Path
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    threads: int | None = Field(default=None, ge=1)
    variant_budget_mb: int = Field(default=2048, ge=0)
    rows: int = Field(default=8, ge=2)
    hang_after_s: float = Field(default=300.0, gt=0)
