"""What the CPU stages add to a spec before it can be drawn."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipelines.events import Pixels
from pipelines.images.area import Box
from pipelines.images.masks import Mask
from pipelines.parts import Part
from pipelines.prompts.assembly import Texts
from pipelines.spec import Canvas, Embedding, Lora, Reference, Size, Structure


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
class Hole:
    """A canvas of the spec of which something is marked, made ready (fooocus-facts 6).

    canvas: the spec's picture that it was made of. whole: (H, W, 3) uint8, continued where it is outpainted. mask:
    (H, W) uint8, 255 where it is drawn anew. box: the area of them that is drawn, which at about a megapixel is `area`,
    (height, width, 3), with `marked` of `mask`, (height, width). enlarging: of the area, where it is small, by a family
    that has an upscaler. size: what is drawn of it, its centre. repainted: (size.height / 8, size.width / 8) float32,
    1 where a latent is drawn anew and 0 elsewhere.
    """

    canvas: Canvas
    whole: Pixels
    mask: Mask
    box: Box
    area: Pixels
    marked: Mask
    enlarging: Enlarging | None
    size: Size
    repainted: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FoundLora:
    """A LoRA of the spec or of its prompt, made ready. path: a local safetensors file."""

    lora: Lora
    path: Path


@dataclass(frozen=True, slots=True)
class FoundEmbedding:
    """An embedding of the spec, or one that a prompt names, whose token that is then. path: as of a LoRA.

    bundled: its name in the file of a LoRA that brings it; empty for a file of its own. optional: whether it is left
    out where it does not fit, as its LoRA is taken by force.
    """

    embedding: Embedding
    path: Path
    bundled: str = ""
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Inputs:
    """The texts of a spec, its pictures by role, and its files, made ready.

    size: of the pictures to draw. start: (height, width, 3) uint8 RGB at that size, where the spec has a start or a
    picture to vary. structures, references: in the order of the spec. loras: all that the pictures are drawn with.
    embeddings: that its prompts may be spelt with. enlarging: of the spec's picture to enlarge. hole: of its canvas,
    which comes back as a whole.
    notes: what was made of the pictures that whoever asked should know, in sentences.
    texts: what each picture is drawn from, in the order of the seeds.
    took_s: seconds that all this took. ready_at: when it was ready, in seconds since 1970; None where nobody says.
    """

    size: Size
    start: Pixels | None = None
    structures: tuple[Hint, ...] = ()
    loras: tuple[FoundLora, ...] = ()
    embeddings: tuple[FoundEmbedding, ...] = ()
    enlarging: Enlarging | None = None
    cut: tuple[int, int] | None = None
    hole: Hole | None = None
    references: tuple[Look, ...] = ()
    notes: tuple[str, ...] = ()
    texts: tuple[Texts, ...] = ()
    took_s: float = 0.0
    ready_at: float | None = None

    @property
    def enlarges_alone(self) -> bool:
        """Whether a picture is enlarged and nothing is drawn."""
        return self.enlarging is not None and not self.enlarging.denoised

    @property
    def strength(self) -> float:
        """The share of the noise schedule that a hole leaves to run: 1 without one."""
        return 1.0 if self.hole is None else self.hole.canvas.acting_strength
