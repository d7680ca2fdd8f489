"""From a spec and its decoded pictures to the inputs of a drawing: sizes, resizing, annotation, files of LoRAs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, assert_never

from pipelines.errors import InputFault
from pipelines.events import Pixels
from pipelines.images.canny import pyra_canny
from pipelines.images.cpds import cpds
from pipelines.images.resize import centre_of, cover, stretch, stretch_to
from pipelines.images.sizes import latent_size, size_of_start, size_to_enlarge, size_to_vary
from pipelines.inputs import Enlarging, Hint, Inputs
from pipelines.needs import CONTROLS, UNKNOWN_LORA
from pipelines.spec import Beginning, Picture, Size, Spec, Start, Structure, StructureKind, Upscale, Vary

STRUCTURES: Mapping[StructureKind, Callable[[Pixels], Pixels]] = MappingProxyType(
    {"PyraCanny": pyra_canny, "CPDS": cpds}
)
"""What makes the hint of a structure from its picture, by its kind: both (height, width, 3), uint8 RGB."""


class LoraCatalogue(Protocol):
    """What a family knows of LoRAs (`pipelines.catalogue.Catalogue`)."""

    def lora(self, source: str) -> Path | None: ...


def prepare(spec: Spec, pictures: Sequence[Pixels], loras: Sequence[Path]) -> Inputs:
    """The inputs of `spec`.

    pictures: the decoded pictures of `spec.pictures`, in their order, (height, width, 3) uint8 RGB of any size. A start
    is stretched to the size to draw; a structure is scaled to cover it, cut to its centre and annotated. A picture to
    vary or to enlarge says the size to draw (fooocus-facts 7).
    loras: the files of `spec.loras`, in their order. Raises InputFault when a picture is too small or too large to take
    the size from.
    """
    if len(pictures) != len(spec.pictures) or len(loras) != len(spec.loras):
        raise ValueError("one decoded picture per picture and one file per LoRA of the spec")
    given = list(zip(spec.pictures, pictures, strict=True))
    size, start, enlarging = _begun(spec, given)
    structures: list[Hint] = []
    for picture, pixels in given:
        match picture:
            case Start() | Vary() | Upscale():
                continue
            case Structure():
                hint = STRUCTURES[picture.kind](cover(pixels, size))
                structures.append(Hint(picture, CONTROLS[picture.kind], hint))
            case _:
                assert_never(picture)
    return Inputs(size, start, tuple(structures), tuple(loras), enlarging)


def find_loras(spec: Spec, catalogue: LoraCatalogue) -> list[Path]:
    """The file of each LoRA of `spec`, in its order.

    Raises InputFault `feature_not_supported` with the LoRA's field for a source that the catalogue does not answer.
    """
    found = []
    for lora in spec.loras:
        path = catalogue.lora(lora.source)
        if path is None:
            raise InputFault("feature_not_supported", UNKNOWN_LORA, lora.field)
        found.append(path)
    return found


def _begun(spec: Spec, given: Sequence[tuple[Picture, Pixels]]) -> tuple[Size, Pixels | None, Enlarging | None]:
    """The size to draw, and what the drawing begins from."""
    for picture, pixels in given:
        if isinstance(picture, Beginning):
            return _begin(picture, pixels, spec)
    if spec.size is None:
        raise ValueError("a spec without a size needs a picture to begin from")
    return spec.size, None, None


def _begin(picture: Beginning, pixels: Pixels, spec: Spec) -> tuple[Size, Pixels | None, Enlarging | None]:
    height, width = pixels.shape[:2]
    match picture:
        case Start():
            size = spec.size or size_of_start(width, height, picture.field)
            return size, stretch(pixels, size), None
        case Vary():
            wide, tall = size_to_vary(width, height, picture.field)
            size = latent_size(wide, tall)
            return size, stretch_to(pixels, wide, tall)[centre_of((tall, wide), (size.height, size.width))], None
        case Upscale():
            large = size_to_enlarge(width, height, picture.factor, picture.field)
            enlarging = Enlarging(pixels, large.width, large.height, large.denoised and spec.steps > 0)
            return latent_size(large.width, large.height), None, enlarging
        case _:
            assert_never(picture)
