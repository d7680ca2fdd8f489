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
    """part: what the default needs. without: the value that needs nothing.

    other: a field of which another value than its default asks for something else than the part.
    """

    part: str
    without: Any
    other: str = ""


NEEDING: Mapping[str, NeedingDefault] = MappingProxyType(
    {
        "enable_safety_checker": NeedingDefault(CHECKER, False, "safety_checker_version"),
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
        if default.part in missing
        and name in type(asked).model_fields
        and name not in asked.model_fields_set
        and not _asks(asked, default.other)
    )
    return asked.model_copy(update={name: NEEDING[name].without for name in left}), left


def _asks(asked: BaseModel, name: str) -> bool:
    """Whether a field that the input may have has another value than its default."""
    field = type(asked).model_fields.get(name)
    return field is not None and getattr(asked, name) != field.default
