"""The drawer: a family of weights, its variants and the engine behind one door."""

from collections.abc import Mapping
from typing import Any

import torch

from pipelines.denoising.asks import Stage
from pipelines.denoising.denoiser import Denoiser, Evaluate
from pipelines.denoising.engine import Engine
from pipelines.denoising.jobs import EngineStats, Job, OnEvent
from pipelines.denoising.runs import run_of
from pipelines.events import Drawn
from pipelines.inputs import Inputs
from pipelines.picture import draw
from pipelines.settings import DrawingSettings
from pipelines.spec import Spec
from pipelines.stages.hint import EncodeHint, HintStage
from pipelines.stages.text import EncodeText, TextStage
from pipelines.stages.vae import DecodeLatent, DecodeStage, EncodeImage, EncodeStage
from pipelines.weights.family import Family, load_family
from pipelines.weights.variants import VariantStore


def stages(family: Family, rows: int) -> dict[type, Stage]:
    """The stages of the engine for a family. rows: the most rows in one UNet call."""
    return {
        EncodeText: TextStage(family.tokenizers),
        EncodeImage: EncodeStage(family.vae),
        EncodeHint: HintStage(),
        Evaluate: Denoiser(rows),
        DecodeLatent: DecodeStage(family.vae),
    }


class Drawer:
    """Draws specs. Every method may be called from any thread."""

    def __init__(self, engine: Engine, variants: VariantStore) -> None:
        self._engine = engine
        self._variants = variants
        self._jobs: dict[str, Job] = {}

    @classmethod
    def open(cls, settings: DrawingSettings) -> "Drawer":
        """Load the weights and start the engine. Blocks; raises WeightsFault when the family is not usable."""
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        family = load_family(settings.family, torch.device(settings.device), getattr(torch, settings.dtype))
        engine = Engine(stages(family, settings.rows), counted=Denoiser.name, hang_after_s=settings.hang_after_s)
        return cls(engine, VariantStore(family, settings.variant_budget_mb * 2**20))

    def submit(self, job_id: str, spec: Spec, inputs: Inputs, prompt: str, on_event: OnEvent) -> None:
        """Draw a spec. on_event is called on the engine's thread and must not block: `Progress` events, then once
        `Drawn` or an exception. Raises EngineDead when nobody would draw it."""

        def forward(event: Any) -> None:
            if isinstance(event, (Drawn, BaseException)):
                self._jobs.pop(job_id, None)
            on_event(event)

        job = Job(
            id=job_id,
            make=lambda: draw(spec, inputs, prompt, self._variants),
            finish=_drawn,
            steps=run_of(spec).steps * len(spec.seeds),
            on_event=forward,
        )
        self._jobs[job_id] = job
        self._engine.submit(job)

    def cancel(self, job_id: str) -> None:
        """Take a job out at the next step boundary; its listener gets JobCancelled. Unknown ids are no error."""
        job = self._jobs.get(job_id)
        if job is not None:
            job.cancelled.set()

    def check(self) -> None:
        """Raise EngineDead unless the engine works."""
        self._engine.check()

    def stats(self) -> EngineStats:
        return self._engine.stats()

    def close(self) -> None:
        self._engine.close()


def _drawn(images: Any, timings: Mapping[str, float]) -> Drawn:
    return Drawn(images, timings)
