"""From a spec and its decoded pictures to the inputs of a drawing: sizes, resizing, annotation, files of LoRAs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, assert_never

from pipelines.errors import InputFault
from pipelines.events import Pixels
from pipelines.images.canny import pyra_canny
from pipelines.images.cpds import cpds
from pipelines.images.face import FaceFinder
from pipelines.images.hole import hole_of
from pipelines.images.resize import centre_of, cover, stretch, stretch_to
from pipelines.images.sizes import fitted_size, latent_size, size_to_enlarge, size_to_vary
from pipelines.inputs import Enlarging, FoundLora, Hint, Inputs, Look
from pipelines.needs import ADAPTERS, CONTROLS, UNKNOWN_LORA
from pipelines.spec import (
    Beginning,
    Canvas,
    Mask,
    Picture,
    Reference,
    Size,
    Spec,
    Start,
    Structure,
    StructureKind,
    Upscale,
    Vary,
)

STRUCTURES: Mapping[StructureKind, Callable[[Pixels], Pixels]] = MappingProxyType(
    {"PyraCanny": pyra_canny, "CPDS": cpds}
)
"""What makes the hint of a structure from its picture, by its kind: both (height, width, 3), uint8 RGB."""


SEEN = Size(width=224, height=224)
"""What the vision tower of image prompts sees of a picture."""


class LoraCatalogue(Protocol):
    """What a family knows of LoRAs (`pipelines.catalogue.Catalogue`)."""

    def lora(self, source: str) -> Path | None: ...


def prepare(
    spec: Spec, pictures: Sequence[Pixels], loras: Sequence[FoundLora], faces: FaceFinder | None = None
) -> Inputs:
    """The inputs of `spec`.

    pictures: the decoded pictures of `spec.pictures`, in their order, (height, width, 3) uint8 RGB of any size. A start
    is stretched to the size to draw, which it says itself where the spec does not; a picture to vary or to enlarge says
    it in any case (`pipelines.images.sizes`), and a canvas where something of it is marked; a structure is scaled to
    cover it, cut to its centre and annotated; a reference, or the face in it, is stretched to what the vision tower
    sees (fooocus-facts 5.1).
    loras: all that are to be drawn with. faces: None where the family has no detector. Raises InputFault when a picture
    is too small or too large to take the size from.
    """
    if len(pictures) != len(spec.pictures):
        raise ValueError("one decoded picture per picture of the spec")
    given = list(zip(spec.pictures, pictures, strict=True))
    begun = _begun(spec, given, loras)
    structures: list[Hint] = []
    references: list[Look] = []
    notes: list[str] = []
    for picture, pixels in given:
        match picture:
            case Start() | Vary() | Upscale() | Canvas() | Mask():
                continue
            case Structure():
                hint = STRUCTURES[picture.kind](cover(pixels, begun.size))
                structures.append(Hint(picture, CONTROLS[picture.kind], hint))
            case Reference():
                seen, note = (pixels, "") if picture.kind == "ImagePrompt" else _face(pixels, faces)
                references.append(Look(picture, ADAPTERS[picture.kind], stretch(seen, SEEN)))
                if note:
                    notes.append(f"{picture.field}: {note}" if picture.field else note)
            case _:
                assert_never(picture)
    return replace(begun, structures=tuple(structures), references=tuple(references), notes=tuple(notes))


def find_loras(spec: Spec, catalogue: LoraCatalogue) -> list[FoundLora]:
    """The file of each LoRA of `spec`, in its order.

    Raises InputFault `feature_not_supported` with the LoRA's field for a source that the catalogue does not answer.
    """
    found = []
    for lora in spec.loras:
        path = catalogue.lora(lora.source)
        if path is None:
            raise InputFault("feature_not_supported", UNKNOWN_LORA, lora.field)
        found.append(FoundLora(lora, path))
    return found


def _face(pixels: Pixels, faces: FaceFinder | None) -> tuple[Pixels, str]:
    """The face in a picture, or the whole picture and why."""
    if faces is None:
        return pixels, "no face detector is installed here, so the whole picture was used and not the face in it"
    face = faces.crop(pixels)
    return (pixels, "no face was found in the picture, so the whole of it was used") if face is None else (face, "")


def _begun(spec: Spec, given: Sequence[tuple[Picture, Pixels]], loras: Sequence[FoundLora]) -> Inputs:
    """The size to draw, and what the drawing begins from."""
    for picture, pixels in given:
        if isinstance(picture, Beginning):
            return replace(_begin(picture, pixels, spec), loras=tuple(loras))
        if isinstance(picture, Canvas):
            upload = next((each for mask, each in given if isinstance(mask, Mask)), None)
            hole = hole_of(picture, pixels, upload)
            if hole is not None:
                height, width = hole.area.shape[:2]
                return Inputs(Size(width=width, height=height), loras=tuple(loras), hole=hole)
    if spec.size is None:
        raise ValueError("a spec without a size needs a picture to begin from")
    return Inputs(spec.size, loras=tuple(loras))


def _begin(picture: Beginning, pixels: Pixels, spec: Spec) -> Inputs:
    height, width = pixels.shape[:2]
    match picture:
        case Start():
            fit = {"keep_aspect": picture.keep_aspect, "crop": picture.crop}
            size, cut = fitted_size(width, height, spec.size, **fit, field=picture.field)
            return Inputs(size, stretch(pixels, size), cut=cut)
        case Vary():
            wide, tall = size_to_vary(width, height, picture.field)
            size = latent_size(wide, tall)
            return Inputs(size, stretch_to(pixels, wide, tall)[centre_of((tall, wide), (size.height, size.width))])
        case Upscale():
            large = size_to_enlarge(width, height, picture.factor, picture.field)
            enlarging = Enlarging(pixels, large.width, large.height, large.denoised and spec.steps > 0)
            return Inputs(latent_size(large.width, large.height), enlarging=enlarging)
        case _:
            assert_never(picture)
