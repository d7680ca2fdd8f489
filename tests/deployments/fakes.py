"""Stand-ins for what needs torch: a drawer and a safety checker that obey the words of a prompt."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from skimage import data

from gateway.errors import ModelError
from gateway.weights.sources import Kind
from pipelines.errors import EngineDead, InputFault
from pipelines.events import Complete, Drawn, EngineStats, Event, Pixels, Preview, Step
from pipelines.inputs import Inputs
from pipelines.spec import Spec
from pipelines.wanted import weights_of
from pipelines.weights.at_hand import Weights

if TYPE_CHECKING:
    from deployments.postprocessor import Models
    from deployments.safety_checker import Checkers

ASTRONAUT: Pixels = data.astronaut()


class FakeDrawer:
    """Draws one flat picture per seed, with a preview at each step where asked.

    Words: `slow` takes 20 s, `die` ends the process, `fault` and `broken` raise, `mirror` draws what the vision tower
    would see.
    """

    def __init__(self, step_s: float = 0.001, keeps: int = 8) -> None:
        """keeps: of so many weights it tells that they are at hand."""
        self._step_s, self._keeps = step_s, keeps
        self._drawn: dict[Weights, None] = {}  # the last at the end
        self._lock = threading.Lock()
        self._cancelled: dict[str, threading.Event] = {}
        self._steps = 0
        self.dead = False

    def submit(
        self,
        job_id: str,
        spec: Spec,
        inputs: Inputs,
        on_event: Callable[[Event | BaseException], None],
        *,
        previews: bool = False,
    ) -> None:
        if self.dead:
            raise EngineDead("dead")
        self._cancelled[job_id] = threading.Event()
        with self._lock:
            self._drawn.pop(weights_of(spec), None)
            self._drawn[weights_of(spec)] = None
        threading.Thread(target=self._draw, args=(job_id, spec, inputs, on_event, previews), daemon=True).start()

    def _draw(
        self,
        job_id: str,
        spec: Spec,
        inputs: Inputs,
        on_event: Callable[[Event | BaseException], None],
        previews: bool,
    ) -> None:
        height, width, prompt = inputs.size.height, inputs.size.width, inputs.texts[0].main
        on_event(Step(0, spec.steps))
        if "fault" in prompt or "broken" in prompt:
            del self._cancelled[job_id]
            fault = InputFault("image_too_small", "too small", "image_prompt_1.image_url", {"min_width": 8})
            on_event(fault if "fault" in prompt else UnportableError("of a library that callers do not have"))
            return
        for step in range(spec.steps):
            if self._cancelled[job_id].wait(20 / spec.steps if "slow" in prompt else self._step_s):
                del self._cancelled[job_id]
                on_event(RuntimeError("cancelled"))
                return
            if "die" in prompt:
                os._exit(1)
            self._steps += 1
            on_event(Step(step + 1, spec.steps))
            if previews:
                pixels = np.full((len(spec.seeds), height // 8, width // 8, 3), step, np.uint8)
                on_event(Preview(step + 1, spec.steps, pixels))
        del self._cancelled[job_id]
        images = np.stack([np.full((height, width, 3), seed % 256, np.uint8) for seed in spec.seeds])
        if "mirror" in prompt:
            images = inputs.references[0].pixels[None]
        on_event(Drawn(images, {"denoise": 0.5}))

    def cancel(self, job_id: str) -> None:
        if job_id in self._cancelled:
            self._cancelled[job_id].set()

    def check(self) -> None:
        if self.dead:
            raise EngineDead("dead")

    def stats(self) -> EngineStats:
        return EngineStats(self._steps, self._steps * 2, 2, len(self._cancelled))

    def variants(self) -> tuple[str, ...]:
        return ("fake",)

    def holds(self) -> tuple[Weights, ...]:
        with self._lock:
            return tuple(self._drawn)[-self._keeps :]

    def close(self) -> None:
        self.dead = True


class HalfwayDiffuser:
    """A Diffuser whose pixels never come: it says that all is drawn, and raises, or with `die` ends its process."""

    async def draw(self, request_id: str, spec: Spec, *given: object) -> AsyncIterator[tuple[Complete]]:
        yield (Complete(len(spec.seeds), {}),)
        if "die" in spec.prompt:
            await asyncio.sleep(0.5)  # until it was heard
            os._exit(1)
        raise ModelError("image_too_small", "too small", ("image_url",))


class UnportableError(Exception):
    def __reduce__(self) -> tuple[object, ...]:
        return (_nobody_may_load_this, (os.getpid(),))


def _nobody_may_load_this(pid: int) -> Exception:
    raise ImportError(f"only process {pid} knows this")


class FakeChecker:
    """Objects to pictures whose first value is `bad`."""

    def __init__(self, bad: int = 13) -> None:
        self._bad = bad

    def objections(self, images: Pixels) -> list[float]:
        return [0.25 if image[0, 0, 0] == self._bad else -0.5 for image in images]


def fake_checkers() -> "Checkers":
    """v1 objects to 13, v2 to 14."""
    return {"v1": FakeChecker(13), "v2": FakeChecker(14)}


def no_models() -> "Models":
    """For a postprocessor whose pictures say nothing of their making."""
    raise AssertionError("nobody asked for metadata")


class FakeExpander:
    """Adds `more` and the seed. Words: `lost` ends the process, `shy` raises, `stuck` takes 2 s."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def expand(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        self.calls.append([*prompts])
        for prompt in prompts:
            if "lost" in prompt:
                os._exit(1)
            if "shy" in prompt:
                raise UnportableError("of a library that callers do not have")
            if "stuck" in prompt:
                time.sleep(2)
        return [f"{prompt}, more {seed}" for prompt, seed in zip(prompts, seeds, strict=True)]


class FakeCatalogue:
    def lora(self, source: str) -> Path | None:
        return Path("/loras/known") if source == "known" else None

    def embedding(self, source: str) -> Path | None:
        return None


class FakeFinder:
    """Finds what ends in `.safetensors` under its name, and nothing else."""

    def __init__(self) -> None:
        self.owners: set[str] = set()

    async def find(self, word: str, field: str, kind: Kind, owner: str = "") -> Path:
        from gateway.errors import ModelError, location

        self.owners.add(owner)
        if not word.endswith(".safetensors"):
            raise ModelError("file_download_error", f"{word} is not there", location(field))
        return Path("/cache") / word.rpartition("/")[2]


class FakeWeights:
    """Every file is on the node already."""

    async def bring(self, path: Path) -> Path:
        return path


class FakePictures:
    """Words: `missing` and `away` raise; of `slow`, which takes 20 s, a file of that name tells of a cancel;
    `astronaut` is her photograph."""

    async def fetch(self, source: str, field: str) -> bytes:
        from gateway.errors import ModelError, StoreUnavailable

        if source.endswith("slow"):
            try:
                await asyncio.sleep(20)
            except asyncio.CancelledError:
                await asyncio.to_thread(Path(source).touch)
                raise
        if source.endswith("away"):
            raise StoreUnavailable("files")
        if source.endswith("missing"):
            raise ModelError("file_download_error", f"{source} is missing", tuple(field.split(".")), ctx={"n": 1})
        return b"astronaut" if source.endswith("astronaut") else b"a picture"

    async def decode(self, content: bytes, field: str) -> Pixels:
        return ASTRONAUT if content == b"astronaut" else np.zeros((600, 600, 3), np.uint8)


def wait_until(promised: Callable[[], bool], timeout_s: float = 30.0) -> None:
    end = time.monotonic() + timeout_s
    while not promised():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.05)
