"""From a spec and its decoded pictures to the inputs of a drawing: sizes, resizing, annotation, files of LoRAs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from pipelines.errors import InputFault
from pipelines.events import Pixels
from pipelines.images.canny import pyra_canny
from pipelines.images.cpds import cpds
from pipelines.images.resize import cover, stretch
from pipelines.images.sizes import size_of_start
from pipelines.inputs import Inputs
from pipelines.spec import ControlKind, Size, Spec

ANNOTATORS: Mapping[ControlKind, Callable[[Pixels], Pixels]] = MappingProxyType({"canny": pyra_canny, "cpds": cpds})


class LoraCatalogue(Protocol):
    """What a family knows of LoRAs (`pipelines.catalogue.Catalogue`)."""

    def lora(self, source: str) -> Path | None: ...


def prepare(spec: Spec, start: Pixels | None, controls: Sequence[Pixels], loras: Sequence[Path]) -> Inputs:
    """The inputs of `spec`.

    start, controls: the decoded pictures of `spec.start` and `spec.controls`, (height, width, 3) uint8 RGB of any
    size. The start is stretched to the size to draw; a control is scaled to cover it, cut to its centre and annotated.
    Raises InputFault when the start picture is too small to take the size from.
    """
    if (start is None) != (spec.start is None):
        raise ValueError("a start picture must be given exactly when the spec has one")
    if len(controls) != len(spec.controls) or len(loras) != len(spec.loras):
        raise ValueError("one picture per control and one file per LoRA of the spec")
    size = _size(spec, start)
    return Inputs(
        size=size,
        start=None if start is None else stretch(start, size),
        hints=tuple(
            ANNOTATORS[control.kind](cover(picture, size))
            for control, picture in zip(spec.controls, controls, strict=True)
        ),
        loras=tuple(loras),
    )


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


def _size(spec: Spec, start: Pixels | None) -> Size:
    if spec.size is not None:
        return spec.size
    if start is None or spec.start is None:
        raise ValueError("a spec without a size needs a start picture")
    height, width = start.shape[:2]
    return size_of_start(width, height, spec.start.field)
