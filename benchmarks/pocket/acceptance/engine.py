"""Pictures for the gates, drawn through the engine that the service draws with."""

import queue
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.pocket.world.drawing import Pixels
from models.pocket.names import LCM, LIGHTNING
from pipelines.drawing import Drawer
from pipelines.events import Drawn, Step
from pipelines.inputs import Inputs
from pipelines.preparing import LoraCatalogue, find_loras, prepare
from pipelines.spec import Guidance, Lora, Size, Spec


def guided(prompt: str, side: int, seed: int, steps: int = 30, **more: Any) -> Spec:
    """As a picture of 30 steps at scale 4 is asked for. more: fields of the spec."""
    guidance = Guidance(scale=4.0)
    return _spec(prompt, side, seed, steps=steps, sampler="dpmpp_2m", schedule="karras", guidance=guidance, **more)


def extreme_speed(prompt: str, side: int, seed: int) -> Spec:
    """As the performance mode of 8 steps asks for a picture."""
    loras = (Lora(source=LCM, scale=1.0, performance=True),)
    return _spec(prompt, side, seed, steps=8, sampler="lcm", schedule="lcm", loras=loras)


def lightning(prompt: str, side: int, seed: int) -> Spec:
    """As the performance mode of 4 steps asks for a picture."""
    loras = (Lora(source=LIGHTNING, scale=1.0, performance=True),)
    return _spec(prompt, side, seed, steps=4, sampler="euler", schedule="sgm_uniform", loras=loras)


def _spec(prompt: str, side: int, seed: int, **how: Any) -> Spec:
    return Spec(prompt=prompt, size=Size(width=side, height=side), seeds=(seed,), **how)


def drawn(
    drawer: Drawer, catalogue: LoraCatalogue, specs: Sequence[Spec], shown: Sequence[Sequence[Pixels]] = ()
) -> list[Pixels]:
    """The picture of each spec, (height, width, 3). All are asked for at once.

    shown: the decoded pictures of each spec, where they have any.
    """
    return take(
        drawer,
        [
            (spec, prepare(spec, shown[at] if shown else (), find_loras(spec, catalogue)))
            for at, spec in enumerate(specs)
        ],
    )


def take(drawer: Drawer, jobs: Iterable[tuple[Spec, Inputs]]) -> list[Pixels]:
    """The first picture of each job. All are asked for at once."""
    waiting: list[queue.Queue[Any]] = []
    for at, (spec, inputs) in enumerate(jobs):
        events: queue.Queue[Any] = queue.Queue()
        drawer.submit(str(at), spec, inputs, events.put)
        waiting.append(events)
    return [_picture(events) for events in waiting]


def _picture(events: "queue.Queue[Any]") -> Pixels:
    while isinstance(event := events.get(), Step):
        pass
    if not isinstance(event, Drawn):
        raise event
    picture: Pixels = event.images[0]
    return picture
