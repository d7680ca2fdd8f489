"""What the CPU stages add to a spec before it can be drawn."""

from dataclasses import dataclass
from pathlib import Path

from pipelines.events import Pixels
from pipelines.parts import Part
from pipelines.spec import Size, Structure


@dataclass(frozen=True, slots=True)
class Hint:
    """A structure of the spec, made ready.

    structure: the spec's picture that it was made of. control: which of the family's control networks reads it.
    pixels: (height, width, 3) uint8 at the size to draw, annotated.
    """

    structure: Structure
    control: Part
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class Inputs:
    """The pictures of a spec by role, and its files, made ready.

    size: of the pictures to draw. start: (height, width, 3) uint8 RGB at that size, where the spec has a start.
    structures: in the order of the spec. loras: one local safetensors file per LoRA of the spec, in its order.
    """

    size: Size
    start: Pixels | None = None
    structures: tuple[Hint, ...] = ()
    loras: tuple[Path, ...] = ()
