"""Turns of the engine without its UNet, for what measures the host; it follows changes of the engine's interfaces."""

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pipelines.conditioning import Conditioning, Prompt
from pipelines.denoising.sigma_schedule import sigma_schedule
from pipelines.device import Device, Download, PlainDevice
from pipelines.engine.engine import Engine
from pipelines.engine.tasks import Answers, Ask, Job, Last, Routine, Stage, Start
from pipelines.events import Drawn
from pipelines.inputs import Inputs
from pipelines.spec import Guidance, Size, SizeEmphasis, Spec
from pipelines.stages.text import EncodeText
from pipelines.stages.vae import DecodeLatent
from pipelines.trajectory import draw, prepare_job
from pipelines.unet.gathering import Gatherer
from pipelines.unet.guide import Evaluate
from pipelines.unet.row_caps import RowCaps
from pipelines.unet.rows import RowContext
from pipelines.unet.runner import UNetRunner
from pipelines.unet.stage import EvaluationStage

META, CPU = torch.device("meta"), torch.device("cpu")
DEEPEST = 64  # rows of a call, more than any case has
CHANNELS, TOKENS, WIDTH, POOLED = 4, 77, 2048, 1280


@dataclass(frozen=True)
class Case:
    """What is drawn at once. guided: as Fooocus guides by default, two rows an image; otherwise by LCM, one row."""

    images: int
    guided: bool

    @property
    def rows(self) -> int:
        return self.images * (2 if self.guided else 1)

    def __str__(self) -> str:
        how = "guided" if self.guided else "not guided"
        return f"{self.images} {how}, {self.rows} row{'s' if self.rows > 1 else ''}"


class Watch(Protocol):
    """Told of a drive by the engine's thread."""

    def running(self) -> AbstractContextManager[None]:
        """Holds from before the first turn until the first job has ended."""

    def turn(self, rows: int) -> None:
        """A turn begins: its UNet call is about to be prepared."""

    def unet(self) -> AbstractContextManager[None]:
        """Holds where the UNet would run."""

    def read(self, tensor: Tensor) -> Tensor:
        """What a tensor of the device is in the host's memory, where nobody waits for it."""


class _Unet(nn.Module):
    """Answers what lies ready."""

    def __init__(self, rows: int, latent: int, device: torch.device, dtype: torch.dtype, watch: Watch) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(CHANNELS, 1, 3, device=device, dtype=dtype)
        self._ready = torch.randn(rows, CHANNELS, latent, latent, device=device, dtype=dtype)
        self._watch = watch

    def forward(self, x: Tensor, *_: Any, **__: Any) -> tuple[Tensor]:
        with self._watch.unet():
            return (self._ready[: len(x)],)


class _MetaDevice:
    """The device path: copies wait for nothing."""

    def __init__(self, watch: Watch) -> None:
        self.device, self._watch = META, watch

    def upload(self, tensor: Tensor) -> Tensor:
        return tensor.to(META, non_blocking=True)

    def download(self, tensor: Tensor) -> Download:
        copy = self._watch.read(tensor)
        return lambda: copy


class _Turns(EvaluationStage):
    """Says when a turn begins."""

    def __init__(self, device: Device, watch: Watch) -> None:
        super().__init__(UNetRunner(RowContext()), Gatherer(device), RowCaps(DEEPEST))
        self._watch = watch

    def run(self, asks: Sequence[Evaluate]) -> Answers[Tensor]:
        self._watch.turn(sum(ask.rows for ask in asks))
        return super().run(asks)


class _Ready(Stage[Any, Any]):
    """A stage that has one answer."""

    def __init__(self, asked: type[Ask[Any]], answer: Any) -> None:
        self.name, self.asked, self._answer = asked.__name__, asked, answer  # type: ignore[misc]

    def cap(self, ask: Any) -> int:
        return DEEPEST

    def run(self, asks: Sequence[Any]) -> Answers[Any]:
        return Answers([self._answer] * len(asks))


def drive(case: Case, latent: int, turns: int, place: torch.device, watch: Watch) -> None:
    """Draw the case's images, a job each, all in the same `turns` calls of a UNet that is not there.

    latent: its side. Raises what the engine ends with when it breaks.
    """
    side, dtype = 8 * latent, torch.float32 if place == CPU else torch.bfloat16
    device: Device = PlainDevice(CPU) if place == CPU else _MetaDevice(watch)
    guidance = Guidance(scale=4, mimicked=7, sharpness=2, sizes=SizeEmphasis(positive=1.5, negative=0.8, end=0.3))
    inputs = Inputs(Size(width=side, height=side))
    spec = Spec(
        size=inputs.size,
        seeds=(7,),
        steps=turns,
        sampler="dpmpp_2m_sde" if case.guided else "lcm",
        schedule="karras" if case.guided else "lcm",
        guidance=guidance if case.guided else Guidance(),
    )
    said = Conditioning(torch.randn(TOKENS, WIDTH, device=place), torch.randn(POOLED, device=place))
    unet = _Unet(case.rows, latent, place, dtype, watch)
    stub = {"key": "stub", "unet": unet, "group": "stub", "text_group": "stub", "controls": {}, "loras": ()}
    variant: Any = SimpleNamespace(**stub, ready=lambda: None)
    prompt, picture = Prompt(("",), [([[]], [[]])], 1), torch.zeros(side, side, 3, dtype=torch.uint8)
    prompts = [(prompt, prompt if case.guided else None)]
    stages = [_Ready(EncodeText, said), _Turns(device, watch), _Ready(DecodeLatent, lambda: picture)]
    all_there = threading.Event()
    ended: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def job() -> Start:
        ready = prepare_job(spec, inputs, variant, prompts, sigma_schedule(spec), device)
        return lambda: draw(ready)

    def first() -> Start:
        start = job()

        def routine() -> Routine[Last]:
            with watch.running():
                all_there.wait()
                return (yield from start())

        return routine

    engine = Engine(stages, counted=EvaluationStage.name, device=device, ahead=place != CPU)
    try:
        with ThreadPoolExecutor(1) as workers:
            for at in range(case.images):
                engine.submit(Job(str(at), job if at else first, turns, ended.put), workers)
        all_there.set()  # all are prepared
        missing = case.images
        while missing:
            event = ended.get()
            if isinstance(event, BaseException):
                raise event
            missing -= isinstance(event, Drawn)
    finally:
        engine.close()
