"""The drawer: a family of weights, its variants and the engine behind one door."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import cache, partial
from typing import Any

import torch

from pipelines.catalogue import Catalogue
from pipelines.conditioning import Prompt, read_prompt
from pipelines.denoising.schedules import sdxl_table
from pipelines.denoising.sigma_schedule import sigma_schedule
from pipelines.device import Device, PinnedDevice, PlainDevice, set_arithmetic
from pipelines.engine.engine import Engine
from pipelines.engine.tasks import Job, Stage, Start
from pipelines.events import EngineStats, Event, Note, Preview, Step
from pipelines.inputs import Enlarging, Inputs
from pipelines.listeners import OnEvent
from pipelines.memory.plan import MemoryPlan
from pipelines.memory.planning import UNPLANNED_MERGED_MB, plan_for
from pipelines.previews import Previews
from pipelines.prompts.limits import MAX_CHUNKS
from pipelines.refining import takes_over
from pipelines.settings import DrawingSettings
from pipelines.spec import Spec
from pipelines.stages.fill import FillStage
from pipelines.stages.hint import HintStage
from pipelines.stages.image_prompt import ImagePromptStage
from pipelines.stages.interposer import InterposerStage
from pipelines.stages.text import TextStage
from pipelines.stages.upscale import EnlargingJob, UpscaleStage, prepare_enlarging, tiles_of
from pipelines.stages.vae import DecodeStage, DecodeTileStage, EncodeStage, EncodeTileStage
from pipelines.trajectory import (
    Prompts,
    adapters_of,
    clean_spec,
    draw,
    enlarge_alone,
    prepare_job,
    variant_spec,
)
from pipelines.unet.compiling import CompiledBody
from pipelines.unet.gathering import Gatherer
from pipelines.unet.profiling import row_caps
from pipelines.unet.row_caps import RowCaps
from pipelines.unet.runner import UNetRunner
from pipelines.unet.stage import EvaluationStage
from pipelines.unet.token_cost import TokenCost
from pipelines.wanted import weights_of
from pipelines.weights.at_hand import Weights
from pipelines.weights.embedding import read_vocabulary
from pipelines.weights.esrgan import LazyUpscaler, upscaler_dtype
from pipelines.weights.family import Family, load_family
from pipelines.weights.integrity import check_files
from pipelines.weights.variants import VariantStore

BRANCH_SHARE = 4  # a quarter of the memory for merged weights is for LoRAs that are stacked for calls


def stages(
    family: Family,
    device: Device,
    caps: RowCaps,
    compiled: CompiledBody | None = None,
    branch_bytes: int | None = None,
) -> list[Stage[Any, Any]]:
    """The stages of the engine for a family. caps: the most rows in one UNet call. compiled: runs the calls.
    branch_bytes: what the LoRAs of one call may take; None for any."""
    residency = family.residency
    gatherer = Gatherer(device, rounded=compiled is not None, branch_bytes=branch_bytes)
    runner = UNetRunner(family.rows, compiled, residency)
    return [
        TextStage(family.tokenizers, device, residency),
        EncodeStage(family.vae, device, residency),
        EncodeTileStage(family.vae, device, residency),
        UpscaleStage(device, residency),
        FillStage(),
        HintStage(device, residency),
        ImagePromptStage(device, residency),
        EvaluationStage(runner, gatherer, caps, TokenCost(family.unet, device.device)),
        DecodeStage(family.vae, device, residency),
        DecodeTileStage(family.vae, residency),
        InterposerStage(family.vae, residency),
    ]


class Drawer:
    """Draws specs. Every method may be called from any thread.

    Merging LoRAs into a large model takes seconds, and so does loading what image prompts need. On the engine's thread
    that would stop every running picture; on the caller's, which is an event loop, every listener. So a job whose
    weights are not at hand waits for a thread that does nothing else, while the others are prepared on another one. One
    such thread: merging is bound by memory. On a GPU its kernels, each of milliseconds, take turns with the engine's
    unless settings give them their own stream.
    """

    def __init__(
        self,
        engine: Engine,
        family: Family,
        variants: VariantStore,
        device: Device,
        max_prompt_chunks: int = MAX_CHUNKS,
        compiled: CompiledBody | None = None,
    ) -> None:
        """compiled: what runs the engine's UNet calls; closed with it."""
        self._engine, self._family, self._variants, self._device = engine, family, variants, device
        self._max_prompt_chunks, self._compiled = max_prompt_chunks, compiled
        find = partial(family.catalogue.part, "upscaler")
        self._upscaler = LazyUpscaler(find, family.home, upscaler_dtype(family.device))
        self._table = sdxl_table(family.catalogue.file.zero_terminal_snr)
        self._previewer = ThreadPoolExecutor(1, thread_name_prefix="previews")
        self._preparer = ThreadPoolExecutor(2, thread_name_prefix="preparer")  # a short job passes a long one
        self._builder = ThreadPoolExecutor(1, thread_name_prefix="variants")

    @classmethod
    def open(cls, settings: DrawingSettings) -> "Drawer":
        """Load the weights and start the engine. Blocks; raises WeightsFault when the family is not usable, and
        ValueError for settings that the memory plan does not allow."""
        set_arithmetic(settings.threads)
        place = torch.device(settings.device)
        device = PinnedDevice(place) if settings.ahead else PlainDevice(place)
        check_files(Catalogue.open(settings.family), settings.verify_at_load)
        plan = _plan(settings)
        resident = plan is None or plan.resident
        if settings.compile != "off" and not resident:
            raise ValueError(
                "compile needs weights that stay where they are, and the memory of the device does not hold this "
                "family whole: set compile to off, or memory_gb to more"
            )
        family = load_family(settings.family, place, getattr(torch, settings.dtype), plan)
        caps = row_caps(
            family.unet, device, settings.rows, settings.profile_sizes, settings.profiles, plan, family.residency
        )
        merged_mb = UNPLANNED_MERGED_MB if settings.variant_budget_mb is None else settings.variant_budget_mb
        # merged weights lie at home: beside the family on the device, or in the host's memory
        budget = plan.merged if plan is not None and plan.resident else merged_mb * 2**20
        branch_bytes = _branch_bytes(family, budget, plan) if settings.lora_branches else None
        variants = VariantStore(
            family,
            budget - (0 if branch_bytes is None else 2 * branch_bytes),  # one stack may be made while another is kept
            own_stream=settings.merge_on_own_stream and resident,
            branch_bytes=branch_bytes,
            rounded=settings.compile != "off",
        )
        compiled = None if settings.compile == "off" else CompiledBody(family.rows, settings.compile)
        engine = Engine(
            stages(family, device, caps, compiled, branch_bytes),
            counted=EvaluationStage.name,
            device=device,
            hang_after_s=settings.hang_after_s,
            ahead=settings.ahead,
            one_at_a_time=settings.one_at_a_time,
        )
        return cls(engine, family, variants, device, settings.max_prompt_chunks, compiled)

    def submit(
        self,
        job_id: str,
        spec: Spec,
        inputs: Inputs,
        on_event: OnEvent,
        *,
        previews: bool = False,
    ) -> None:
        """Draw a spec. Returns at once. on_event is called on threads of the drawer's and must not block: a `Note` of
        each LoRA that the client named, and one where rows cannot carry them; `Step` events; then once `Drawn` or
        an exception; with `previews` also `Preview` events, at most one each half second, of which one that is just
        being made may come after the end. Raises EngineDead when nobody would draw it."""
        ended = threading.Event()  # and not the job itself: it would hold itself

        def preview(event: Preview) -> None:
            if not ended.is_set():
                on_event(event)

        seen = Previews(len(spec.seeds), self._family.catalogue.colours, self._previewer, preview) if previews else None

        def tell(event: Event | BaseException) -> None:
            if not isinstance(event, Step | Note):
                ended.set()
            elif seen is not None and isinstance(event, Step):
                seen.heard(event)
            on_event(event)

        if inputs.enlarging is not None and inputs.enlarges_alone:
            alone = inputs.enlarging
            job = Job(job_id, lambda: self._start_of(alone), tiles_of(alone), tell)
            self._engine.submit(job, self._preparer)
            return
        wanted = variant_spec(inputs)
        self._variants.note_request(wanted)
        clean = clean_spec(wanted, spec)
        both = [wanted] if clean is None else [wanted, clean]
        at_hand = [variant for each in both if (variant := self._variants.find(each)) is not None]
        adapters = adapters_of(inputs)
        loaded = self._variants.prompters.find(adapters)
        asked = spec.refiner if takes_over(spec) else None
        refining = self._variants.refiners.find() if asked is not None else None
        whole = len(at_hand) == len(both)
        for variant in at_hand if whole else ():
            self._variants.note_found(variant)
        run = sigma_schedule(spec, self._table, inputs.strength)

        def prepare() -> Start:
            prompts = self._read(spec, inputs)
            small = inputs.enlarging or self._enlarged_area(inputs)
            enlarging = None if small is None else self._enlarging(small)
            variant, *others = at_hand if whole else [self._variants.get(each) for each in both]
            self._variants.note_drawn(weights_of(spec), variant)
            for note in (*self._variants.notes(wanted), *map(Note, filter(None, [variant.note]))):
                tell(note)
            prompters = self._variants.prompters.get(adapters) if loaded is None else loaded
            refiner = self._variants.refiners.get(asked.field) if asked and not refining else refining
            prediction = self._family.catalogue.file.prediction
            rest = self._device, prediction, enlarging, prompters, others[0] if others else None, refiner
            return partial(draw, prepare_job(spec, inputs, variant, prompts, run, *rest), seen)

        job = Job(job_id, prepare, run.steps * len(spec.seeds), tell)
        ready = whole and loaded is not None and (asked is None or refining is not None)
        self._engine.submit(job, self._preparer if ready else self._builder)

    def _start_of(self, alone: Enlarging) -> Start:
        """Of a job that enlarges a picture and does no more: it needs no weights but the upscaler's."""
        return partial(enlarge_alone, self._enlarging(alone), self._device)

    def _enlarging(self, wanted: Enlarging) -> EnlargingJob:
        """For a worker's thread: the first one reads the upscaler."""
        return prepare_enlarging(wanted, self._upscaler.get(), self._device)

    def _enlarged_area(self, inputs: Inputs) -> Enlarging | None:
        """Of a small area around a hole; a family without an upscaler draws it as it was resized."""
        if inputs.hole is None or not self._family.catalogue.has("upscaler"):
            return None
        return inputs.hole.enlarging

    def _read(self, spec: Spec, inputs: Inputs) -> list[Prompts]:
        """The prompts of each picture; those that are equal are one."""
        first, second = self._family.text_encoders
        vocabulary = read_vocabulary(inputs.embeddings, (first.config.hidden_size, second.config.hidden_size))
        tokenizers, most = self._family.tokenizers, self._max_prompt_chunks

        @cache
        def read(lines: tuple[str, ...], field: str, expanded: str = "") -> Prompt:
            whole = (*lines, expanded) if expanded else lines
            return read_prompt(whole, tokenizers, field, most, vocabulary, len(lines))

        guided = spec.guidance.acts
        return [
            (
                read(texts.positive, "prompt", texts.expanded),
                read(texts.negative, "negative_prompt") if guided else None,
            )
            for texts in inputs.texts
        ]

    def cancel(self, job_id: str) -> None:
        """Take a job out at the next step boundary; its listener gets JobCancelled. Unknown ids are no error."""
        self._engine.cancel(job_id)

    def check(self) -> None:
        """Raise EngineDead unless the engine works."""
        self._engine.check()

    def stats(self) -> EngineStats:
        traffic = self._family.residency.traffic()
        told = replace(self._engine.stats(), parts_brought=traffic.parts, bytes_brought=traffic.bytes)
        return replace(told, **asdict(self._variants.counts))

    def variants(self) -> tuple[str, ...]:
        """Names of the weights that are at hand, the ones used last at the end."""
        return self._variants.names()

    def holds(self) -> tuple[Weights, ...]:
        """The same as whoever routes requests names them, of those that were drawn with."""
        return self._variants.holds()

    def close(self) -> None:
        """Stop after the current call; jobs that are not over end with EngineDead."""
        self._engine.close()
        if self._compiled is not None:
            self._compiled.close()
        for threads in (self._builder, self._preparer, self._previewer):
            threads.shutdown()


def _branch_bytes(family: Family, budget: int, plan: MemoryPlan | None) -> int:
    """What the LoRAs of one call may take. budget: for merged weights and them. On a device that does not hold the
    family they have to fit beside its UNet."""
    half = budget // BRANCH_SHARE // 2
    if plan is None or plan.resident:
        return half
    unet = sum(parameter.nbytes for parameter in family.unet.parameters())
    return max(0, min(half, plan.parts - unet))


def _plan(settings: DrawingSettings) -> MemoryPlan | None:
    """How the memory of the device is used; None where nothing is planned. Raises WeightsFault as `plan_for`."""
    return plan_for(
        Catalogue.open(settings.family),
        torch.device(settings.device),
        getattr(torch, settings.dtype),
        rows=settings.rows,
        memory_gb=settings.memory_gb,
        variant_budget_mb=settings.variant_budget_mb,
    )
