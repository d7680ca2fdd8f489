"""Fields whose defaults need a part of the family: where it lacks that, who did not ask is served without it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel

from gateway.family import CHECKER

Asked = TypeVar("Asked", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class NeedingDefault:
    """part: what the default needs. without: the value that needs nothing."""

    part: str
    without: Any


NEEDING: Mapping[str, NeedingDefault] = MappingProxyType(
    {
        "enable_safety_checker": NeedingDefault(CHECKER, False),
        "loras": NeedingDefault("offset_lora", ()),
    }
)


def served_without(asked: Asked, missing: Collection[str]) -> tuple[Asked, tuple[str, ...]]:
    """A valid input without what nobody asked for and the family lacks, and the names of the fields that it is about.

    What the client asked for stays, to be refused.
    """
    left = tuple(
        name
        for name, default in NEEDING.items()
        if default.part in missing and name in type(asked).model_fields and name not in asked.model_fields_set
    )
    return asked.model_copy(update={name: NEEDING[name].without for name in left}), left
