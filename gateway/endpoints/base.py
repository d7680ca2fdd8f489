"""An endpoint: an input schema, an output schema, and the translation of a request into work."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.endpoints.styles import STYLES
from gateway.errors import ModelError, ValidationErrors
from gateway.validation import names_at, nearest, validated
from gateway.work import CHECKER, EXPANDER, Delivery, Finished, Image, Work
from pipelines.spec import Spec


class Output(BaseModel):
    """Output of the four Fooocus endpoints."""

    images: list[Image] = Field(description="The pictures, in the order of their seeds.")
    timings: dict[str, float] = Field(description="Seconds by stage; queue and wait are waiting.")
    has_nsfw_concepts: list[bool] = Field(description="For each picture, whether the safety checker fired.")

    @classmethod
    def of(cls, work: Work, finished: Finished) -> Self:
        return cls(
            images=list(finished.images),
            timings=dict(finished.timings),
            has_nsfw_concepts=list(finished.nsfw),
        )

    @model_validator(mode="after")
    def _parallel(self) -> Self:
        if len(self.images) != len(self.has_nsfw_concepts):
            raise ValueError("has_nsfw_concepts runs parallel to images")
        return self


class FooocusOutput(Output):
    """The pictures of a Fooocus request."""


class FastOutput(Output):
    """The pictures of a fast request, with what repeats them."""

    seed: int = Field(description="Seed of the first picture; picture i has the seed that is i higher.")
    prompt: str = Field(description="The prompt as it was drawn.")

    @classmethod
    def of(cls, work: Work, finished: Finished) -> Self:
        return cls(
            images=list(finished.images),
            timings=dict(finished.timings),
            has_nsfw_concepts=list(finished.nsfw),
            seed=work.spec.seeds[0],
            prompt=finished.prompt,
        )


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


Family = Literal["fooocus", "fast"]

MAX_NAME = 64  # characters of an unknown field's name that are repeated in a header
MAX_UNKNOWN = 16  # unknown fields that are named; a request with more says how many
_UNKNOWN = "unknown:"  # before the names of fields that no schema knows


class Part(BaseModel):
    """A part of an input. Fields that it does not know are kept apart, so that they can be named.

    A field that is null is absent, as clients write what they leave to its default.
    """

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if value is not None}


class Input(Part, ABC):
    """The input of an endpoint, which knows what it asks for."""

    family: ClassVar[Family]

    @abstractmethod
    def spec(self) -> Spec:
        """What to draw. A missing seed is drawn here, so two calls may differ."""

    def ignored(self) -> tuple[str, ...]:
        """Names of the fields that do not act here, or not beside the others of this input, as in Fooocus."""
        return ()

    @abstractmethod
    def delivery(self) -> Delivery:
        """How the pictures are handed over."""


@dataclass(frozen=True)
class Order:
    """A request that was accepted. inactive: names of fields that do not act, `unknown:<name>` for unknown ones.

    The names are printable ASCII without commas, fit for a header.
    """

    work: Work
    inactive: tuple[str, ...]


@dataclass(frozen=True)
class Endpoint:
    """One of the six model ids (fal-protocol 9)."""

    id: str
    input: type[Input]
    output: type[Output]

    @property
    def app(self) -> str:
        """The first two segments of the id, under which clients ask for status and result."""
        return app_of(self.id)

    def order(
        self,
        payload: Any,
        request_id: str,
        base_url: str,
        missing: Collection[str] = (),
        styles: Collection[str] = (),
    ) -> Order:
        """The work that `payload` (decoded JSON) asks for. Raises ValidationErrors.

        missing: parts that the family lacks; defaults that need one are left out, and so is the expansion. styles:
        names that may be asked for besides those of the schema.
        """
        _check_is_bare(self.input, payload)
        asked = validated(self.input, payload, {STYLES: styles})
        drawn, left = served_without(asked, missing)
        spec, unexpandable = unexpanded(drawn.spec(), type(asked).model_fields, missing)
        named, unknown = dict.fromkeys((*asked.ignored(), *left, *unexpandable)), _unknown(asked)
        work = Work(
            request_id=request_id,
            endpoint=self.id,
            spec=spec,
            delivery=asked.delivery(),
            base_url=base_url,
            inactive=(*(name for name in named if name in asked.model_fields_set), *unknown),
        )
        return Order(work, (*named, *unknown))

    def without_effect(self, inactive: Sequence[str]) -> str:
        """The names of an order's `inactive` for who reads a log: beside an unknown one the field that is nearest."""
        return ", ".join(f"{name}{self._meant(name)}" for name in inactive)

    def _meant(self, name: str) -> str:
        if not name.startswith(_UNKNOWN):
            return ""
        *way, last = name.removeprefix(_UNKNOWN).split(".")
        if way and way[0] not in self.input.model_fields:
            return ""
        found = nearest(last, names_at(self.input, [part for part in way if not part.isdecimal()]))
        return f" (did you mean {'.'.join((*way, *found))}?)" if found else ""

    def result(self, work: Work, finished: Finished) -> dict[str, Any]:
        """The body of the answer, as the output schema has it."""
        return self.output.of(work, finished).model_dump(mode="json")


def _check_is_bare(input: type[Input], payload: Any) -> None:
    """Raise ValidationErrors for an input inside of `input`, as the clients' functions take it and other services."""
    wrapped = isinstance(payload, dict) and isinstance(payload.get("input"), dict)
    if wrapped and not payload.keys() & input.model_fields.keys():
        msg = "The fields of the input are the body itself; send them without an object `input` round them"
        raise ValidationErrors([ModelError("value_error", msg, ("input",))])


def app_of(endpoint_id: str) -> str:
    """`fal-ai/fooocus` of `fal-ai/fooocus/inpaint` (fal-protocol 0.3)."""
    return "/".join(endpoint_id.split("/")[:2])


def _unknown(asked: Input) -> tuple[str, ...]:
    names = [f"{_UNKNOWN}{_printable(name)}" for name in _extras(asked, "")]
    if len(names) > MAX_UNKNOWN:
        return (*names[:MAX_UNKNOWN], f"{_UNKNOWN}and {len(names) - MAX_UNKNOWN} more")
    return tuple(names)


def _extras(value: Any, prefix: str) -> Iterator[str]:
    """Dotted names of the fields that no schema knows, at every level."""
    if isinstance(value, Part):
        yield from (prefix + name for name in value.model_extra or {})
        for name in type(value).model_fields:
            yield from _extras(getattr(value, name), f"{prefix}{name}.")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _extras(item, f"{prefix}{index}.")


def _printable(name: str) -> str:
    # a client chose the name, and it ends up in a header
    return "".join(c if "!" <= c <= "~" and c != "," else "?" for c in name[:MAX_NAME])
