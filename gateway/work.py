"""What the graph is given and what it gives back: the contract between the gateway and whoever draws."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from gateway.monitoring.trace import Trace
from gateway.policy import Acl
from pipelines.progress import Note as Note
from pipelines.progress import Step as Step
from pipelines.spec import Spec

CHECKER = "safety_checker"  # the part without which pictures are not checked
EXPANDER = "expansion"  # the part without which prompts are not expanded


@dataclass(frozen=True, slots=True)
class FamilyState:
    """What a family has beside its checkpoint, by name.

    missing: what it lacks, each with the command that brings it. Clients are told all of it: no path of the server is
    in it. styles: names that requests may ask for besides those of the schemas. version: the family's own.
    """

    name: str
    has: tuple[str, ...]
    missing: Mapping[str, str]
    styles: frozenset[str] = frozenset()
    version: str = ""

    @property
    def checks_pictures(self) -> bool:
        """Whether anything can say which pictures may not be shown."""
        return CHECKER not in self.missing


ImageFormat = Literal["png", "jpeg", "webp"]


class Delivery(BaseModel):
    """How finished pictures reach the client.

    inline: as data URIs in the result instead of files. owner: the id of the key whose the files are; empty where the
    service is open. acl: who may read them, where the client says. expires_in_s: from their storing; None keeps them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: ImageFormat
    inline: bool = False
    owner: str = ""
    acl: Acl | None = None
    expires_in_s: int | None = None


class Work(BaseModel):
    """One request, ready for the graph.

    base_url: scheme, host and port under which the client reached us; the addresses of outputs begin with it.
    inactive: names of fields that the client sent and that do not act, `unknown:<name>` for unknown ones.
    hint: what requests of the client have in common that would rather be drawn by one replica; empty for none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    request_id: str
    endpoint: str
    spec: Spec
    delivery: Delivery
    base_url: str
    inactive: tuple[str, ...] = ()
    # a dispatcher of the version before knows no hints, and reads works without one
    hint: str = Field(default="", exclude_if=lambda hint: not hint)

    def trace(self, attempt: int = 0) -> Trace:
        """What logs and spans say of it."""
        return Trace(self.request_id, self.endpoint, self.delivery.owner, attempt)


class Image(BaseModel):
    """A produced picture as fal's output schema has it. file_size in bytes, width and height in pixels."""

    url: str
    content_type: str
    file_name: str
    file_size: int
    width: int
    height: int
    # of its file in the store, where it has one: for whoever keeps account of files, not for clients
    key: SkipJsonSchema[str | None] = Field(default=None, exclude=True)


@dataclass(frozen=True, slots=True)
class Preview:
    """How the pictures look after `step` of `steps`: one small file each, in their order, of `content_type`.

    width and height in pixels, of each.
    """

    step: int
    steps: int
    contents: Sequence[bytes]
    content_type: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Waits:
    """The work waits until somebody has room to draw it: the time from here to the next event is not its own."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Somebody has room: from here on the time is the work's own again."""


@dataclass(frozen=True, slots=True)
class Delivering:
    """The pictures are drawn. What follows is checking and storing them, which waits for a store that is away."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The last thing that a run says.

    nsfw runs parallel to images. timings: seconds by stage, `prepare` and `wait` besides. prompt: as drawn.
    """

    images: Sequence[Image]
    nsfw: Sequence[bool]
    timings: Mapping[str, float]
    prompt: str


Event = Step | Preview | Note | Waits | Placed | Delivering | Finished


class Runner(Protocol):
    """Draws one work. The graph is one; tests inject fakes.

    Yields any number of `Step`, `Note` and `Waits`, with `previews` also of `Preview`, then at most one `Delivering`,
    which only notes may follow, and exactly one `Finished`. Raises `gateway.errors.ModelError` for a fault of the
    request and `gateway.errors.PlatformError` for a fault of ours, of which `StoreUnavailable` says that the request
    can be drawn as soon as the store is back.
    Closing the iterator (or cancelling the task that reads it) cancels the run: its rows leave the batch at the next
    step.
    """

    def run(self, work: Work, previews: bool = False) -> AsyncIterator[Event]: ...
