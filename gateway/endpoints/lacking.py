"""Fields that need a part of the family and may go without it: where it lacks that, the request is served all the same.

Of defaults who did not ask is served without them. The expansion is left out even where it is asked for: the default
list of styles asks for it, and without it the picture still is one of the prompt.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel

from gateway.work import CHECKER, EXPANDER
from pipelines.spec import Spec

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
        "enable_refiner": NeedingDefault("refiner", False),
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


def unexpanded(spec: Spec, fields: Collection[str], missing: Collection[str]) -> tuple[Spec, tuple[str, ...]]:
    """A spec without the expansion where the family has nothing for it, and the name of the field that asked for it.

    fields: of the input, of which one does.
    """
    if EXPANDER not in missing or not spec.expand_prompt:
        return spec, ()
    asking = tuple(name for name in ("expand_prompt", "styles") if name in fields)
    return spec.model_copy(update={"expand_prompt": False}), asking


def _asks(asked: BaseModel, name: str) -> bool:
    """Whether a field that the input may have has another value than its default."""
    field = type(asked).model_fields.get(name)
    return field is not None and getattr(asked, name) != field.default
