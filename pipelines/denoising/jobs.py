"""Jobs: what a caller hands to the engine, and what the engine keeps of it while it runs."""

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.denoising.asks import Ask, Routine, Stage
from pipelines.events import Event

OnEvent = Callable[[Event | BaseException], None]
Make = Callable[[], Routine]
Finish = Callable[[Any, Mapping[str, float]], Event]


class JobCancelled(Exception):
    """The job was cancelled and has left the batch."""


@dataclass(eq=False)
class Job:
    """One spec on this engine, from its caller's side.

    make: starts its routine; called on the engine's thread. finish: its last event, from the routine's result and the
    seconds that it spent in each stage. steps: sampling steps over all its trajectories. on_event: called on the
    engine's thread with `Progress` events, then once with the last event or an exception (by the watchdog's thread,
    where the engine's hangs); it must not block.
    """

    id: str
    make: Make
    finish: Finish
    steps: int
    on_event: OnEvent
    cancelled: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counts since the start. unet_rows / unet_calls is the mean number of rows per step.

    retried: asks that were tried again after a call had failed. lowered: sizes whose row cap was found too large.
    """

    unet_calls: int
    unet_rows: int
    largest_call: int
    live_jobs: int
    retried: int = 0
    lowered: int = 0


@dataclass(eq=False)
class Live:
    """A job inside the engine.

    number: of its arrival. timings: seconds by stage; a shared call counts whole for each job in it. done: sampling
    steps so far, over all its trajectories.
    """

    job: Job
    number: int
    timings: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    routines: list[Routine] = field(default_factory=list)
    done: int = 0
    over: bool = False

    @property
    def steps_left(self) -> int:
        return self.job.steps - self.done


@dataclass(eq=False)
class Strand:
    """One running routine. parent and place: where its result goes when it is a branch of a fork."""

    live: Live
    routine: Routine
    parent: "Branching | None" = None
    place: int = 0
    done: int = 0


@dataclass(eq=False)
class Branching:
    """A strand that waits for the branches of its fork."""

    strand: Strand
    results: list[Any]
    missing: int
    branches: list[Strand]


@dataclass(eq=False)
class OpenAsk:
    """An ask that waits for its turn."""

    strand: Strand
    ask: Ask
    stage: Stage
