"""From a spec and its decoded pictures to the inputs of a drawing: sizes, resizing, annotation, files of LoRAs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, assert_never

from pipelines.catalogue import Part
from pipelines.errors import InputFault
from pipelines.events import Pixels
from pipelines.images.canny import pyra_canny
from pipelines.images.cpds import cpds
from pipelines.images.resize import cover, stretch
from pipelines.images.sizes import size_of_start
from pipelines.inputs import Hint, Inputs
from pipelines.spec import Picture, Size, Spec, Start, Structure, StructureKind


@dataclass(frozen=True, slots=True)
class StructureType:
    """annotate: of a picture (height, width, 3), uint8 RGB, the hint in the same shape. control: in `family.json`."""

    annotate: Callable[[Pixels], Pixels]
    control: Part


STRUCTURES: Mapping[StructureKind, StructureType] = MappingProxyType(
    {"PyraCanny": StructureType(pyra_canny, "canny"), "CPDS": StructureType(cpds, "cpds")}
)
"""What is made of a structure's picture by its kind, and which control network of a family reads that."""


class LoraCatalogue(Protocol):
    """What a family knows of LoRAs (`pipelines.catalogue.Catalogue`)."""

    def lora(self, source: str) -> Path | None: ...


def prepare(spec: Spec, pictures: Sequence[Pixels], loras: Sequence[Path]) -> Inputs:
    """The inputs of `spec`.

    pictures: the decoded pictures of `spec.pictures`, in their order, (height, width, 3) uint8 RGB of any size. A start
    is stretched to the size to draw; a structure is scaled to cover it, cut to its centre and annotated.
    loras: the files of `spec.loras`, in their order. Raises InputFault when the start is too small to take the size
    from.
    """
    if len(pictures) != len(spec.pictures) or len(loras) != len(spec.loras):
        raise ValueError("one decoded picture per picture and one file per LoRA of the spec")
    given = list(zip(spec.pictures, pictures, strict=True))
    size = spec.size or _size_of_start(given)
    start: Pixels | None = None
    structures: list[Hint] = []
    for picture, pixels in given:
        match picture:
            case Start():
                start = stretch(pixels, size)
            case Structure():
                kind = STRUCTURES[picture.kind]
                structures.append(Hint(picture, kind.control, kind.annotate(cover(pixels, size))))
            case _:
                assert_never(picture)
    return Inputs(size, start, tuple(structures), tuple(loras))


def find_loras(spec: Spec, catalogue: LoraCatalogue) -> list[Path]:
    """The file of each LoRA of `spec`, in its order.

    Raises InputFault `feature_not_supported` with the LoRA's field for a source that the catalogue does not answer.
    """
    found = []
    for lora in spec.loras:
        path = catalogue.lora(lora.source)
        if path is None:
            raise InputFault(
                "feature_not_supported",
                "This LoRA is not one that is known here; weights from other addresses are not supported.",
                lora.field,
            )
        found.append(path)
    return found


def _size_of_start(given: Sequence[tuple[Picture, Pixels]]) -> Size:
    for picture, pixels in given:
        if isinstance(picture, Start):
            height, width = pixels.shape[:2]
            return size_of_start(width, height, picture.field)
    raise ValueError("a spec without a size needs a start picture")
