"""What the CPU stages add to a spec before it can be drawn."""

from dataclasses import dataclass, field
from pathlib import Path

from pipelines.events import Pixels
from pipelines.spec import Size


@dataclass(frozen=True, slots=True)
class Inputs:
    """The pictures and files of a spec, made ready.

    size: of the pictures to draw. start: (height, width, 3) uint8 RGB at that size, when the spec has a start image.
    hints: one annotated (height, width, 3) uint8 picture per control of the spec, in its order.
    loras: one local safetensors file per LoRA of the spec, in its order.
    """

    size: Size
    start: Pixels | None = None
    hints: tuple[Pixels, ...] = ()
    loras: tuple[Path, ...] = field(default=())
