"""The engine's path over SDXL of random weights: as it is, or with one of the switches that want a GPU's word."""

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import nn

from benchmarks.sdxl import FACTOR, LATENT_CHANNELS, Models
from pipelines.denoising.denoisers import evaluate, sample, watched
from pipelines.denoising.noise import SAMPLERS, draw_noise
from pipelines.denoising.schedules import sdxl_table, sgm_uniform
from pipelines.denoising.sigma_schedule import SigmaSchedule
from pipelines.device import Device, Download, PinnedDevice, PlainDevice
from pipelines.engine.engine import Engine
from pipelines.engine.tasks import Fork, Job, Last, Routine, Start, ask
from pipelines.events import Drawn, EngineStats, Pixels
from pipelines.listeners import OnEvent
from pipelines.stages.vae import DecodeLatent, DecodeStage
from pipelines.unet.compiling import CompiledBody, Mode
from pipelines.unet.gathering import Gatherer
from pipelines.unet.guide import Guide
from pipelines.unet.row_caps import RowCaps
from pipelines.unet.runner import UNetRunner
from pipelines.unet.stage import EvaluationStage
from pipelines.unet.token_cost import TokenCost
from pipelines.weights.bases import clone_sharing_parameters

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True)
class Switch:
    """One way to run the path; with the defaults it is the plain one.

    ahead: the host never waits for the device: pinned copies, and checks of answers a call later. channels_last: the
    layout of the UNet's convolutions. compiled: what of the UNet is. rows: of the calls that it is measured on, which
    are few where each takes long to compile; None: all.
    """

    name: str
    ahead: bool = False
    channels_last: bool = False
    compiled: Mode | None = None
    rows: tuple[int, ...] | None = None

    def measures(self, rows: int) -> bool:
        return self.rows is None or rows in self.rows


PLAIN = Switch("plain")
AHEAD = Switch("ahead", ahead=True)
SWITCHES = (
    AHEAD,
    Switch("channels last", channels_last=True),
    Switch("compiled blocks", compiled="blocks", rows=(2, 8)),
    Switch("compiled whole", compiled="whole", rows=(8,)),
)


@dataclass(frozen=True, eq=False)
class Picture:
    """A square picture to draw by Euler's method. side: in pixels."""

    side: int
    steps: int
    seed: int
    guide: Guide


class EnginePath:
    """From asks to pictures on one device, with a switch.

    models: those that asks name, as the switch changes them.
    """

    def __init__(self, models: Models, switch: Switch, rows: int) -> None:
        """rows: of a UNet call at most."""
        self.models = models = _models(models, switch)
        pinned = switch.ahead and models.device.type == "cuda"
        device: Device = PinnedDevice(models.device) if pinned else PlainDevice(models.device)
        self._body = _body(models, switch)
        runner, gatherer = UNetRunner(models.rows, self._body), Gatherer(device, rounded=self._body is not None)
        self.stage = EvaluationStage(runner, gatherer, RowCaps(rows), TokenCost(models.unet, device.device))
        self.drawing = partial(Drawing, models, device, self.stage, ahead=switch.ahead)

    def compiled(self) -> int:
        """Wait for what is being compiled. Returns how many signatures of calls run compiled by now."""
        return 0 if self._body is None else self._body.wait()

    def close(self) -> None:
        if self._body is not None:
            self._body.close()


def _models(models: Models, switch: Switch) -> Models:
    """The models as a switch changes them; what it does not change is shared."""
    if not switch.channels_last:
        return models
    changed = {
        name: nn.Parameter(parameter.contiguous(memory_format=torch.channels_last), requires_grad=False)
        for name, parameter in models.unet.named_parameters()
        if parameter.dim() == 4
    }
    return replace(models, unet=clone_sharing_parameters(models.unet, changed))


def _body(models: Models, switch: Switch) -> CompiledBody | None:
    """What runs the UNet's calls; None runs them as they are. Whatever a switch changes of the call is chosen here."""
    if switch.compiled is None:
        return None
    return CompiledBody(models.rows, switch.compiled, "inductor" if models.device.type == "cuda" else "aot_eager")


class Drawing:
    """An engine that draws pictures until it is closed."""

    def __init__(self, models: Models, device: Device, stage: EvaluationStage, *, ahead: bool) -> None:
        self._device = device
        stages: list[Any] = [stage, DecodeStage(models.vae, device)]  # each serves asks of a type of its own
        self._engine = Engine(stages, EvaluationStage.name, device, ahead=ahead)
        self._preparer = ThreadPoolExecutor(1)

    def draw(self, pictures: Sequence[Picture]) -> list[Pixels]:
        """Draw pictures, all from the first call on, and wait for the last. (height, width, 3) uint8 each."""
        told: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        everybody = threading.Event()
        for at, picture in enumerate(pictures):
            first = at == 0  # it holds the engine up until all are there
            self._submit(str(at), picture, partial(_put, told, at), _AtOnce(), everybody if first else None)
        everybody.set()
        drawn: dict[int, Pixels] = {}
        while len(drawn) < len(pictures):
            at, event = told.get()
            if isinstance(event, BaseException):
                raise event
            if isinstance(event, Drawn):
                drawn[at] = event.images[0]
        return [drawn[at] for at in range(len(pictures))]

    def submit(self, name: str, picture: Picture, on_event: OnEvent) -> None:
        """Have a picture drawn as a service does: it is prepared on another thread, and joins the next call."""
        self._submit(name, picture, on_event, self._preparer, None)

    def stats(self) -> EngineStats:
        return self._engine.stats()

    def close(self) -> None:
        self._engine.close()
        self._preparer.shutdown()

    def _submit(
        self, name: str, picture: Picture, on_event: OnEvent, workers: Executor, awaited: threading.Event | None
    ) -> None:
        prepare = partial(_prepare, picture, self._device, awaited)
        self._engine.submit(Job(name, prepare, picture.steps, on_event), workers)


def _prepare(picture: Picture, device: Device, awaited: threading.Event | None) -> Start:
    """As `pipelines.trajectory` does, from ready conditioning and without a spec, which needs pydantic."""
    table = sdxl_table()
    run = SigmaSchedule(table, sgm_uniform(table, picture.steps))
    shape = (LATENT_CHANNELS, picture.side // FACTOR, picture.side // FACTOR)
    noise = draw_noise("euler", run, shape, picture.seed).on(device)

    def trajectory() -> Routine[Download]:
        sampler = SAMPLERS["euler"].make(noise.first * run.first_deviation, run, noise.replay())
        latent = yield from sample(sampler, watched(evaluate(picture.guide, table), run))
        return (yield from ask(DecodeLatent(latent)))

    def start() -> Routine[Last]:
        if awaited is not None:
            awaited.wait()
        images = yield from ask(Fork([trajectory()]))
        return partial(_drawn, images)

    return start


def _drawn(images: Sequence[Download], timings: Mapping[str, float]) -> Drawn:
    return Drawn(np.stack([image().numpy() for image in images]), timings)


def _put(told: "queue.SimpleQueue[tuple[int, Any]]", at: int, event: Any) -> None:
    told.put((at, event))


class _AtOnce(Executor):
    """Runs on the thread that submits."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        done: Future[T] = Future()
        done.set_result(fn(*args, **kwargs))
        return done
