"""A studio: a drawer over the pocket family, its pictures, and a view on their latents."""

import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor

from pipelines.device import Download, PlainDevice
from pipelines.drawing import Drawer, stages
from pipelines.engine.engine import Engine
from pipelines.engine.tasks import Advance, Answers, Job, Last, Routine, ask
from pipelines.events import Drawn, Note, Pixels, Step
from pipelines.inputs import Inputs
from pipelines.preparing import find_loras, prepare
from pipelines.spec import Guidance, Lora, Size, Spec
from pipelines.stages.vae import DecodeLatent, DecodeStage
from pipelines.unet.row_caps import RowCaps
from pipelines.unet.stage import EvaluationStage
from pipelines.weights.family import Family
from pipelines.weights.variants import VariantStore

LCM = (Lora(source="sdxl_lcm_lora.safetensors", scale=1.0),)


class Watched(DecodeStage):
    """Decodes, and keeps the latents that it was given."""

    latents: list[Tensor]

    def run(self, asks: Sequence[DecodeLatent]) -> Answers[Download]:
        self.latents.extend(ask.latent.clone() for ask in asks)
        return super().run(asks)


class Studio:
    """A drawer and a view on its last latents. branch_bytes: of the LoRAs that the rows of a call may carry; None
    merges them."""

    def __init__(self, family: Family, *, ahead: bool = False, branch_bytes: int | None = None) -> None:
        self.family = family
        device = PlainDevice(family.device)
        self.watched = Watched(family.vae, device, family.residency)
        self.watched.latents = []
        every = [*stages(family, device, RowCaps(16), branch_bytes=branch_bytes), self.watched]
        self.engine = Engine(every, counted=EvaluationStage.name, ahead=ahead)
        self.variants = VariantStore(family, 2**30, branch_bytes=branch_bytes)
        self.drawer = Drawer(self.engine, family, self.variants, device)

    def inputs(self, spec: Spec, pictures: Sequence[Pixels] = ()) -> Inputs:
        return prepare(spec, pictures, find_loras(spec, self.family.catalogue))

    def submit(self, name: str, spec: Spec, **pictures: Any) -> "queue.Queue[Any]":
        return self.listen(name, spec, self.inputs(spec, **pictures))

    def listen(self, name: str, spec: Spec, inputs: Inputs) -> "queue.Queue[Any]":
        events: queue.Queue[Any] = queue.Queue()
        self.drawer.submit(name, spec, inputs, events.put)
        return events

    def draw(self, spec: Spec, **pictures: Any) -> Pixels:
        return last(self.submit("one", spec, **pictures)).images


@contextmanager
def held_up(studio: Studio) -> Iterator[None]:
    """Let the engine wait meanwhile, so that what is submitted arrives at once."""
    held, go = threading.Event(), threading.Event()

    def hold() -> Routine[Last]:
        held.set()
        assert go.wait(60)
        yield from ask(Advance(1))
        return lambda timings: Drawn(np.zeros((1, 8, 8, 3), np.uint8), timings)

    with ThreadPoolExecutor(1) as workers:
        studio.engine.submit(Job("hold", lambda: hold, 1, lambda _: None), workers)
    assert held.wait(20)
    yield
    go.set()


def last(events: "queue.Queue[Any]") -> Any:
    while isinstance(event := events.get(timeout=120), Step | Note):
        pass
    return event


def spec(**changes: Any) -> Spec:
    given: dict[str, Any] = {
        "prompt": "a red circle on a blue background",
        "size": Size(width=128, height=128),
        "seeds": (7,),
        "steps": 4,
        "sampler": "lcm",
        "schedule": "lcm",
        "guidance": Guidance(scale=1.0),
        "loras": LCM,
    }
    return Spec(**{**given, **changes})
