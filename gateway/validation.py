"""What a client sent against a pydantic model, and its violations as fal's 422 entries (fal-protocol 8.2)."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Annotated, Any, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
)
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

from gateway.errors import ModelError, ValidationErrors


def whole_number(text: str, least: int = 0, most: int = 10**8 - 1) -> int | None:
    """The number that `text` writes in decimal digits alone; None for any other text, and out of the bounds."""
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(most))):
        return None
    return number if least <= (number := int(text)) <= most else None


MAX_SPELT = 100  # characters of a name for which nearest ones are looked for
NEAR = 0.7  # from 0, nothing in common, to 1, the same letters in the same order


def nearest(given: str, known: Iterable[str], most: int = 1, near: float = NEAR) -> list[str]:
    """Up to `most` names of `known`, the nearest first. Case and what stands between words make no difference."""
    if len(given) > MAX_SPELT:
        return []
    spelt = {_letters(name): name for name in known if len(name) <= MAX_SPELT}
    return [spelt[letters] for letters in get_close_matches(_letters(given), spelt, n=most, cutoff=near)]


def _letters(name: str) -> str:
    return "".join(each for each in name.lower() if each.isalnum())


MAX_SHOWN = 200  # characters of an offending text that are echoed
MAX_PROMPT = 10_000  # characters of a prompt
MAX_NAME = 2048  # characters of a name or an address of weights
MAX_TOKEN = 100  # characters of a word that stands for an embedding; prompts are looked through for all of them
MAX_ITEMS = 16  # items of an offending list or object; one with more is not echoed at all
MAX_DEPTH = 3  # levels of an offending value; a deeper one is not echoed at all
MAX_UNKNOWN = 64  # unknown fields beside a missing one among which it is looked for
NEAR_MISSING = 0.6  # a field that is missing beside one that is unknown: less in common than elsewhere makes them one
MAX_ENTRIES = 32  # entries in one answer
BRANCH = "<"  # a tag of a discriminated union begins with it, so that it can be told from a field's name

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class OneOf:
    """Beside a `Literal`: a value outside it is fal's `one_of` with the list of values. also: what else would do.

    open: under which name the context of a validation has values that are valid besides those of the schema.
    """

    also: str = ""
    open: str = ""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        named = tuple(get_args(source))

        def check(value: Any, inner: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
            try:
                return inner(value)
            except ValidationError:
                more = sorted(set((info.context or {}).get(self.open, ())) - set(named))
                if isinstance(value, str) and value in more:
                    return value
                raise self._refusal([*named, *more]) from None

        return core_schema.with_info_wrap_validator_function(check, handler(source))

    def _refusal(self, expected: list[Any]) -> PydanticCustomError:
        few = ", ".join(f"'{value}'" for value in expected)
        values = f": {few}" if len(expected) <= 12 else f" the {len(expected)} values of ctx.expected"
        message = f"Input should be one of{values}{self.also and f', or {self.also}'}"
        return PydanticCustomError("one_of", message, {"expected": expected})


def _well_formed(text: str) -> str:
    # JSON escapes can carry half of a surrogate pair, which no later stage could write as UTF-8
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError(
            "string_unicode", "Input should be valid Unicode text without lone surrogates"
        ) from None
    return text


Text = Annotated[str, AfterValidator(_well_formed)]
# fal publishes no limit of a prompt; ours bounds the work of counting its tokens, which are what drawing is bounded by
Prompt = Annotated[str, Field(max_length=MAX_PROMPT), AfterValidator(_well_formed)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME), AfterValidator(_well_formed)]
Token = Annotated[str, Field(min_length=1, max_length=MAX_TOKEN), AfterValidator(_well_formed)]
FilledText = Annotated[str, Field(min_length=1), AfterValidator(_well_formed)]


def validated(model: type[Model], payload: Any, context: Mapping[str, Collection[str]] = MappingProxyType({})) -> Model:
    """The payload as an instance of `model`. context: see `OneOf.open`. Raises ValidationErrors with one entry per
    violation."""
    try:
        return model.model_validate(payload, context=context)
    except ValidationError as error:
        raise explained(error, model) from None


def explained(error: ValidationError, model: type[BaseModel]) -> ValidationErrors:
    """pydantic's violations as fal's: its types and ctx keys, `loc` in terms of the input, nothing long echoed."""
    return ValidationErrors([_entry(found, model) for found in error.errors(include_url=False)[:MAX_ENTRIES]])


def names_at(model: type[BaseModel], loc: Sequence[str | int]) -> frozenset[str]:
    """The fields that an object may have which stands at `loc` of an input; none where no object may stand."""
    models: set[type[BaseModel]] = {model}
    for part in loc:
        if isinstance(part, str) and not part.startswith(BRANCH):
            fields = [each.model_fields[part] for each in models if part in each.model_fields]
            models = {inner for field in fields for inner in _models_of(field.annotation)}
    return frozenset(name for each in models for name in each.model_fields)


def _models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_of(inner)


def shown(value: Any, depth: int = MAX_DEPTH) -> Any:
    """`value` as an error may echo it: JSON, valid Unicode, no media, nothing long. None where it cannot be echoed."""
    try:
        return _shown(value, depth)
    except _NotShownError:
        return None


class _NotShownError(Exception):
    """The value is too large, or is none of JSON's."""


def _shown(value: Any, depth: int) -> Any:
    match value:
        case None | bool():
            return value
        case int() if abs(value) < 2**64:
            return value
        case float() if math.isfinite(value):
            return value
        case str():
            return _shown_text(value)
        case list() if depth and len(value) <= MAX_ITEMS:
            return [_shown(item, depth - 1) for item in value]
        case Mapping() if depth and len(value) <= MAX_ITEMS:
            return {_shown_text(str(key)): _shown(item, depth - 1) for key, item in value.items()}
        case BaseModel():
            return _shown(value.model_dump(mode="python"), depth)
    raise _NotShownError


def _shown_text(text: str) -> str:
    text = text.lstrip() if text[:1].isspace() and text.lstrip()[:5].lower() == "data:" else text
    cut = len(text) > MAX_SHOWN
    text = text[:MAX_SHOWN].encode(errors="replace").decode()
    if text[:5].lower() == "data:":
        return text.partition(",")[0] + ",…"
    return text[: MAX_SHOWN - 1] + "…" if cut else text


def _entry(found: ErrorDetails, model: type[BaseModel]) -> ModelError:
    type_, message, ctx = found["type"], found["msg"], found.get("ctx", {})
    match type_:
        case "too_long":
            type_, ctx = "sequence_too_long", {"max_length": ctx["max_length"]}
            message = f"List should have at most {ctx['max_length']} items"
        case "too_short":
            type_, ctx = "sequence_too_short", {"min_length": ctx["min_length"]}
            message = f"List should have at least {ctx['min_length']} items"
        case "one_of":
            message += _values_meant(found["input"], ctx["expected"])
        case "missing":
            message += _field_meant(found, model)
        case "model_type":
            # pydantic's own words name our class
            message, ctx = "Input should be an object", {}
    ctx = {key: value for key, value in ctx.items() if isinstance(value, str | int | float | list)}
    loc = tuple(
        _shown_text(part) if isinstance(part, str) else part
        for part in found["loc"]
        if not str(part).startswith(BRANCH)
    )
    return ModelError(type_, message, loc, ctx=ctx or None, input=shown(found["input"]))


def _values_meant(given: Any, expected: Sequence[str]) -> str:
    """What a misspelt value may have meant, for the end of a message."""
    found = [f"'{value}'" for value in nearest(given, expected, 3)] if isinstance(given, str) else []
    return f"; did you mean {' or '.join(found)}?" if found else ""


def _field_meant(found: ErrorDetails, model: type[BaseModel]) -> str:
    """Which unknown field may have meant the one that is missing beside it, for the end of a message."""
    *way, missing = found["loc"]
    known = names_at(model, way)
    unknown = [name for name in found["input"] if name not in known] if isinstance(found["input"], Mapping) else []
    sent = nearest(str(missing), unknown[:MAX_UNKNOWN], near=NEAR_MISSING)
    return f" (did you mean {missing}? the request has {_shown_text(sent[0])})" if sent else ""
