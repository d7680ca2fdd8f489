"""What the schemas offer and the pipelines do not do yet: refused when asked for, named when it is a default."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel

from gateway.errors import ModelError
from gateway.validation import shown

Family = Literal["fooocus", "fast"]


@dataclass(frozen=True, slots=True)
class Unbuilt:
    """A field of which only the default and the values in `served` can be drawn; lists of texts compare as sets.

    path: dotted from the input, `*` stands for every index.
    """

    path: str
    says: str
    served: tuple[Any, ...] = ()


UNBUILT: Mapping[Family, tuple[Unbuilt, ...]] = MappingProxyType(
    {
        "fooocus": (),
        "fast": (),
    }
)

# accepted because they are defaults (or an older client's echo), though they change nothing yet: field -> why
INACTIVE: Mapping[Family, Mapping[str, str]] = MappingProxyType(
    {
        "fooocus": MappingProxyType({}),
        "fast": MappingProxyType(
            {
                "request_id": "requests have ids of the service's own",
            }
        ),
    }
)


def refusals(family: Family, asked: BaseModel) -> list[ModelError]:
    """One `feature_not_supported` entry per field of a valid input that asks for what is not built yet."""
    return [
        ModelError("feature_not_supported", unbuilt.says, loc, input=shown(getattr(parent, name)))
        for unbuilt in UNBUILT[family]
        for loc, parent, name in _occurrences(asked, tuple(unbuilt.path.split(".")), ())
        if not _served(unbuilt, parent, name)
    ]


def _served(unbuilt: Unbuilt, parent: BaseModel, name: str) -> bool:
    value = _comparable(getattr(parent, name))
    default = _comparable(type(parent).model_fields[name].default)
    return value in unbuilt.served or value == default


def inactive(family: Family, asked: BaseModel) -> tuple[str, ...]:
    """Names of the fields of INACTIVE that this input turns on: neither empty nor false."""
    return tuple(name for name in INACTIVE[family] if getattr(asked, name, None))


def _occurrences(
    node: Any, path: tuple[str, ...], loc: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], BaseModel, str]]:
    """Where the path leads from `node`: (loc, the object that holds the field, its name). Not every input has all."""
    head, rest = path[0], path[1:]
    if head == "*":
        for index, item in enumerate(node):
            yield from _occurrences(item, rest, (*loc, index))
    elif isinstance(node, BaseModel) and head in type(node).model_fields:
        if rest:
            yield from _occurrences(getattr(node, head), rest, (*loc, head))
        else:
            yield (*loc, head), node, head


def _comparable(value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return frozenset(value)
    return value
