"""The kinds of structure: what is made of such a picture, and which control network of a family reads it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pipelines.events import Pixels
from pipelines.images.canny import pyra_canny
from pipelines.images.cpds import cpds
from pipelines.spec import StructureKind


@dataclass(frozen=True, slots=True)
class StructureType:
    """annotate: of a picture (height, width, 3), uint8 RGB, the hint in the same shape. control: in `family.json`."""

    annotate: Callable[[Pixels], Pixels]
    control: str


STRUCTURES: Mapping[StructureKind, StructureType] = MappingProxyType(
    {"PyraCanny": StructureType(pyra_canny, "canny"), "CPDS": StructureType(cpds, "cpds")}
)
