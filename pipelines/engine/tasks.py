"""Tasks: what a picture's straight-line code asks of the engine, who answers it, and the jobs that it belongs to."""

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Protocol, TypeAlias, TypeVar, cast

from torch import Tensor

from pipelines.events import Event
from pipelines.listeners import OnEvent

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Answer(Protocol):
    """Any value: the engine carries answers from stages to routines and looks into none."""


class Ask(Generic[T_co]):
    """Something that only the owner of the device does; its answer is a `T_co`.

    key: asks of one type with equal keys may share a call. rows: how much of a call's room this takes. cost: rows x
    pixels of what a job asks for in every step; 0 for what it asks for once.
    """

    @property
    def key(self) -> Hashable:
        return ()

    @property
    def rows(self) -> int:
        return 1

    @property
    def cost(self) -> float:
        return 0.0


A = TypeVar("A", bound=Ask[Answer])

Routine: TypeAlias = Generator[Ask[Answer], Answer, T]
"""Straight-line code that yields asks, is sent their answers, and returns its result."""


def ask(asked: Ask[T]) -> Routine[T]:
    """Ask for something: `answer = yield from ask(EncodeText(...))`."""
    return cast(T, (yield asked))


@dataclass(frozen=True, eq=False)
class Fork(Ask[list[T]]):
    """Run routines side by side; the answer is the list of their results. The trajectories of a job."""

    routines: Sequence[Routine[T]]


@dataclass(frozen=True, eq=False)
class Advance(Ask[None]):
    """Not a request: the asking trajectory says how many of its sampling steps are done. Answered at once."""

    done: int


@dataclass(frozen=True, eq=False)
class Answers(Generic[T_co]):
    """What a call answers. values: one an ask, in their order. largest: (n,) the largest magnitude in each value, on
    the device: it is not finite where the value is not. None for what needs no check."""

    values: Sequence[T_co]
    largest: Tensor | None = None


class Stage(ABC, Generic[A, T]):
    """Serves the asks of type A, several at a time, each with a T."""

    name: ClassVar[str]
    asked: type[A]

    def cap(self, ask: A) -> int:
        """The most rows that a call with this ask's key may hold; an ask that is larger runs alone."""
        return 1

    @property
    def tokens(self) -> tuple[int, int]:
        """Of prompts in all rows of all its calls so far, and of these what only fills up."""
        return 0, 0

    def suits(self, taken: Sequence[A], more: A) -> bool:
        """Whether a call of `taken`, which share a key with `more`, should take that too."""
        return True

    @abstractmethod
    def run(self, asks: Sequence[A]) -> Answers[T]:
        """Answer asks that share a key. May raise: then the engine tries them one by one."""


AnyStage: TypeAlias = Stage[Ask[Answer], Answer]  # as the engine sees it, which gives each only what it serves

WAIT = "wait"  # beside the names of stages: seconds in which the device worked for other jobs

Last = Callable[[Mapping[str, float]], Event]  # makes a job's last event from its seconds by stage
Start = Callable[[], Routine[Last]]


@dataclass(eq=False)
class Job:
    """One spec on this engine.

    prepare: what comes before its routine and needs no device, called once on a worker; gives what starts the routine,
    on the engine's thread, and again if neighbours spoilt it. steps: sampling steps over all its trajectories.
    on_event: called on the listeners' thread with `Step` events, then once with the last event or an exception; a
    slow one delays others' events, never a call.

    The rest is the engine's. number: of its arrival, 0 before. ready_at: when it was prepared, by `time.monotonic`.
    timings: seconds by stage, a shared call whole for each job in it, and under `WAIT` those of calls for others alone.
    done: sampling steps so far. alone: shares no call any more. over: has had its last
    event, which `last` makes.
    """

    id: str
    prepare: Callable[[], Start]
    steps: int
    on_event: OnEvent
    start: Start | None = None
    last: Last | None = None
    number: int = 0
    ready_at: float = math.inf
    tasks: list["Task"] = field(default_factory=list)
    timings: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    done: int = 0
    cancelled: bool = False
    alone: bool = False
    over: bool = False


@dataclass(eq=False)
class Task:
    """One running routine of a job.

    parent, place: where its result goes when it is a branch of a fork. asked, filed_in: what it waits for, since which
    turn. results, missing: of its own fork. done: sampling steps that it has told of. over: nothing is sent to it now.
    """

    job: Job
    routine: Routine[Answer]
    parent: "Task | None" = None
    place: int = 0
    asked: Ask[Answer] = field(default_factory=Ask[Answer])
    filed_in: int = 0
    results: list[Answer] = field(default_factory=list)
    missing: int = 0
    done: int = 0
    over: bool = False

    def __post_init__(self) -> None:
        self.job.tasks.append(self)
