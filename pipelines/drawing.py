"""The drawer: a family of weights, its variants and the engine behind one door."""

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from pipelines.catalogue import LatentColours
from pipelines.denoising.asks import Stage
from pipelines.denoising.caps import RowCaps
from pipelines.denoising.denoiser import Denoiser, Evaluate
from pipelines.denoising.engine import Engine
from pipelines.denoising.jobs import EngineStats, Job, JobCancelled, OnEvent
from pipelines.denoising.profiling import row_caps
from pipelines.denoising.runs import run_of
from pipelines.errors import EngineDead, InputFault
from pipelines.events import Drawn, Preview, Progress
from pipelines.inputs import Inputs
from pipelines.picture import draw, recipe
from pipelines.previews import Previews
from pipelines.prompts.limits import MAX_CHUNKS
from pipelines.settings import DrawingSettings
from pipelines.spec import Spec
from pipelines.stages.hint import EncodeHint, HintStage
from pipelines.stages.text import EncodeText, TextStage
from pipelines.stages.vae import DecodeLatent, DecodeStage, EncodeImage, EncodeStage
from pipelines.weights.family import Family, load_family
from pipelines.weights.recipe import Recipe
from pipelines.weights.variants import Variant, VariantStore

_SDXL = LatentColours()

log = logging.getLogger("fooocus.engine")


def stages(family: Family, caps: RowCaps, max_prompt_chunks: int = MAX_CHUNKS) -> dict[type, Stage]:
    """The stages of the engine for a family. caps: the most rows in one UNet call."""
    return {
        EncodeText: TextStage(family.tokenizers, max_prompt_chunks),
        EncodeImage: EncodeStage(family.vae),
        EncodeHint: HintStage(),
        Evaluate: Denoiser(caps),
        DecodeLatent: DecodeStage(family.vae),
    }


class Drawer:
    """Draws specs. Every method may be called from any thread.

    Merging LoRAs into a large model takes seconds. On the engine's thread that would stop every running picture; on
    the caller's, which is an event loop, every listener. So a job whose weights are not at hand waits for a thread
    that does nothing else, while the others go straight to the engine. One such thread: merging is bound by memory.
    On a GPU its kernels, each of milliseconds, take turns with the engine's on the device's one stream.
    """

    def __init__(self, engine: Engine, variants: VariantStore, colours: LatentColours = _SDXL) -> None:
        """colours: of the family's latents, for previews."""
        self._engine = engine
        self._variants = variants
        self._colours = colours
        self._previewer = ThreadPoolExecutor(1, thread_name_prefix="previews")
        self._cancelled: dict[str, threading.Event] = {}  # by job, until its last event
        self._builder = ThreadPoolExecutor(1, thread_name_prefix="variants")
        self._closing = False

    @classmethod
    def open(cls, settings: DrawingSettings) -> "Drawer":
        """Load the weights and start the engine. Blocks; raises WeightsFault when the family is not usable."""
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        family = load_family(settings.family, torch.device(settings.device), getattr(torch, settings.dtype))
        caps = row_caps(family.unet, settings.rows, settings.profile_sizes, settings.profiles)
        engine = Engine(
            stages(family, caps, settings.max_prompt_chunks),
            counted=Denoiser.name,
            hang_after_s=settings.hang_after_s,
            one_at_a_time=settings.one_at_a_time,
        )
        return cls(engine, VariantStore(family, settings.variant_budget_mb * 2**20), family.catalogue.colours)

    def submit(
        self,
        job_id: str,
        spec: Spec,
        inputs: Inputs,
        prompt: str,
        on_event: OnEvent,
        *,
        previews: bool = False,
    ) -> None:
        """Draw a spec. Returns at once. on_event is called on threads of the drawer's and must not block: `Progress`
        events, then once `Drawn` or an exception; with `previews` also `Preview` events, at most one each half second,
        of which one that is just being made may come after the end. Raises EngineDead when nobody would draw it."""
        self._engine.check()
        wanted = recipe(spec, inputs)
        variant = self._variants.find(wanted)
        cancelled = threading.Event()

        def preview(event: Preview) -> None:
            if job_id in self._cancelled:
                on_event(event)

        seen = Previews(len(spec.seeds), self._colours, self._previewer, preview) if previews else None

        def forward(event: Any) -> None:
            if seen is not None and isinstance(event, Progress):
                seen.heard(event)
            if isinstance(event, Progress) or self._cancelled.pop(job_id, None) is not None:
                on_event(event)

        def start(variant: Variant) -> None:
            self._engine.submit(
                Job(
                    id=job_id,
                    make=lambda: draw(spec, inputs, prompt, variant, seen),
                    finish=_drawn,
                    steps=run_of(spec).steps * len(spec.seeds),
                    on_event=forward,
                    cancelled=cancelled,
                )
            )

        self._cancelled[job_id] = cancelled
        if variant is None:
            self._builder.submit(self._build, wanted, start, forward, cancelled)
            return
        try:
            start(variant)
        except EngineDead:
            self._cancelled.pop(job_id, None)
            raise

    def _build(
        self,
        wanted: Recipe,
        start: Callable[[Variant], None],
        forward: Callable[[BaseException], None],
        cancelled: threading.Event,
    ) -> None:
        try:
            if cancelled.is_set():
                raise JobCancelled("the job was cancelled")
            if self._closing:
                raise EngineDead("the engine has stopped: closed")
            start(self._variants.get(wanted))
        except Exception as fault:
            if not isinstance(fault, (InputFault, JobCancelled, EngineDead)):
                log.exception("weights could not be built")
            forward(fault)

    def cancel(self, job_id: str) -> None:
        """Take a job out at the next step boundary; its listener gets JobCancelled. Unknown ids are no error."""
        cancelled = self._cancelled.get(job_id)
        if cancelled is not None:
            cancelled.set()

    def check(self) -> None:
        """Raise EngineDead unless the engine works."""
        self._engine.check()

    def stats(self) -> EngineStats:
        return self._engine.stats()

    def variants(self) -> tuple[str, ...]:
        """Names of the weights that are at hand, the ones used last at the end."""
        return self._variants.names()

    def close(self) -> None:
        """Stop after the current call; jobs that are not over end with EngineDead."""
        self._closing = True
        self._engine.close()
        self._builder.shutdown()
        self._previewer.shutdown()


def _drawn(images: Any, timings: Mapping[str, float]) -> Drawn:
    return Drawn(images, timings)
