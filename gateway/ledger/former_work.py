"""The work of a row, read: also in the form that version 0.1 wrote it in."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from gateway.work import Work
from pipelines.spec import Picture, Start, Structure, StructureKind


def read_work(text: str) -> Work:
    """The work that a row holds as JSON. Raises ValidationError for one that this version cannot read."""
    try:
        return Work.model_validate_json(text)
    except ValidationError as fault:
        unknown = {error["loc"] for error in fault.errors() if error["type"] == "extra_forbidden"}
        if unknown.isdisjoint(_FORMER_KEYS):
            raise
    return _FormerWork.model_validate_json(text).today()


# What follows can go when nobody comes from version 0.1 any more, with 0.3: no row waits from one to the other.
_FORMER_KEYS = frozenset({("spec", "start"), ("spec", "controls")})
_KINDS: Mapping[str, StructureKind] = MappingProxyType({"canny": "PyraCanny", "cpds": "CPDS"})


class _FormerStart(BaseModel):
    image: str
    strength: float
    field: str


class _FormerControl(BaseModel):
    kind: Literal["canny", "cpds"]
    image: str
    weight: float
    stop_at: float
    field: str


class _FormerSpec(BaseModel):
    """Had a start and controls in place of pictures; what else it had is as it was."""

    model_config = ConfigDict(extra="allow")

    start: _FormerStart | None
    controls: tuple[_FormerControl, ...]

    def pictures(self) -> tuple[Picture, ...]:
        start = self.start
        starts = () if start is None else (Start(source=start.image, strength=start.strength, field=start.field),)
        structures = (
            Structure(
                kind=_KINDS[each.kind], source=each.image, weight=each.weight, stop_at=each.stop_at, field=each.field
            )
            for each in self.controls
        )
        return (*starts, *structures)


class _FormerWork(BaseModel):
    model_config = ConfigDict(extra="allow")

    spec: _FormerSpec

    def today(self) -> Work:
        spec = {**(self.spec.model_extra or {}), "pictures": self.spec.pictures()}
        return Work.model_validate({**(self.model_extra or {}), "spec": spec})
