"""What the CPU stages add to a spec before it can be drawn."""

from dataclasses import dataclass
from pathlib import Path

from pipelines.events import Pixels
from pipelines.parts import Part
from pipelines.spec import Reference, Size, Structure


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
class Enlarging:
    """A picture that the upscaler makes larger before anything else happens.

    pixels: (h, w, 3) uint8 RGB as it came. width, height: of the enlarged one, in pixels. denoised: whether it is then
    drawn over, at the size of the inputs, its centre; otherwise it is what the job gives, once.
    """

    pixels: Pixels
    width: int
    height: int
    denoised: bool


@dataclass(frozen=True, slots=True)
class Look:
    """A reference of the spec, made ready.

    reference: the spec's picture that it was made of. adapter: which of the family's image-prompt adapters reads it.
    pixels: (224, 224, 3) uint8, as the vision tower sees it.
    """

    reference: Reference
    adapter: Part
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class Inputs:
    """The pictures of a spec by role, and its files, made ready.

    size: of the pictures to draw. start: (height, width, 3) uint8 RGB at that size, where the spec has a start or a
    picture to vary. structures, references: in the order of the spec. loras: one local safetensors file per LoRA of the
    spec, in its order. enlarging: of the spec's picture to enlarge. notes: what was made of the pictures that whoever
    asked should know, in sentences.
    """

    size: Size
    start: Pixels | None = None
    structures: tuple[Hint, ...] = ()
    loras: tuple[Path, ...] = ()
    enlarging: Enlarging | None = None
    cut: tuple[int, int] | None = None
    references: tuple[Look, ...] = ()
    notes: tuple[str, ...] = ()
