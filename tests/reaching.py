"""What stands below the face for judges: levels, samplers, guidance, denoising and whole pictures."""

import math
import queue
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from benchmarks.pocket import sampling
from pipelines import trajectory
from pipelines.conditioning import Conditioning
from pipelines.denoising import denoisers, samplers
from pipelines.denoising.brownian import BrownianTree
from pipelines.denoising.noise import SAMPLERS, draw_noise
from pipelines.denoising.schedules import sdxl_table
from pipelines.denoising.sigma_schedule import SigmaSchedule, sigma_schedule
from pipelines.drawing import Drawer
from pipelines.engine.tasks import Advance, Routine
from pipelines.events import Drawn, Pixels
from pipelines.inputs import FoundLora, Inputs
from pipelines.needs import CONTROLS
from pipelines.preparing import prepare
from pipelines.settings import DrawingSettings
from pipelines.spec import Lora, Size, Structure
from pipelines.stages.hint import EncodeHint, HintStage
from pipelines.unet import guidance, sharpening
from pipelines.unet.gathering import Gatherer
from pipelines.unet.guide import ControlImage, Evaluate, Guide
from pipelines.unet.row_caps import RowCaps
from pipelines.unet.rows import RowContext
from pipelines.unet.runner import UNetRunner
from pipelines.unet.stage import EvaluationStage, _guided
from pipelines.weights import control_lora
from tests.reaching_asked import DEVICE, Plain, refusals, spec_of
from tests.reaching_weights import store_of, variant_spec_of

Evaluations = list[tuple[Tensor, float, Tensor]]


# -- levels


def sigmas(schedule: str, steps: int, denoise: float, sampler: str | None) -> Tensor:
    return _run({"sampler": sampler or "euler", "schedule": schedule, "steps": steps, "denoise": denoise}).sigmas


def timestep(sigma: float, schedule: str) -> int:
    return _run({"sampler": "euler", "schedule": schedule, "steps": 1}).table.timestep(sigma)


def sigma_at(timestep: float) -> float:
    return float(sdxl_table().sigma(torch.tensor(timestep)))


def first_latents(settings: Plain, seed: int, start: Tensor | None) -> Tensor:
    shape = (4, settings["height"] // 8, settings["width"] // 8)
    run = _run(settings)
    x = draw_noise(settings["sampler"], run, shape, seed).first * run.first_deviation
    return x if start is None else x + start


def _run(settings: Plain) -> SigmaSchedule:
    return sigma_schedule(spec_of(settings))


# -- samplers and their noise


def sample(name: str, x: Tensor, sigmas: Tensor, denoiser: Callable[[Tensor, float], Tensor], noise: Any) -> Tensor:
    return sampling.run(_sampler(name, x, SigmaSchedule(sdxl_table(), sigmas), noise), denoiser)


def _sampler(name: Any, x: Tensor, run: SigmaSchedule, noise: Any) -> samplers.Sampler:
    if not callable(noise):
        noise = draw_noise(name, run, tuple(x.shape), int(noise)).on(DEVICE).replay()
    return SAMPLERS[name].make(x, run, noise)


def brownian(
    seed: int, shape: tuple[int, ...], low: float, high: float, ways: Sequence[tuple[float, float]]
) -> list[Tensor]:
    tree = BrownianTree(seed, shape, low, high)
    return [tree(sigma, after) for sigma, after in ways]


def consistency(clean: Tensor, x: Tensor, timestep: int) -> Tensor:
    return guidance.consistency(clean, x, timestep)


# -- guidance


def classifier_free(positive: Tensor, negative: Tensor, scale: float) -> Tensor:
    return guidance.classifier_free(positive, negative, scale)


def adaptive_scale(scale: float, mimicked: float, progress: float) -> float:
    return guidance.adaptive_scale(scale, mimicked, progress)


def rescaled(guided: Tensor, positive: Tensor, share: float) -> Tensor:
    return guidance.rescaled(guided, positive, torch.full((len(guided),), share))


def sharpen(eps: Tensor, guide: Tensor, sharpness: float, progress: float) -> Tensor:
    return sharpening.sharpen(eps, guide, torch.full((len(eps),), sharpening.filtered_share(sharpness, progress)))


def joint_bilateral(signal: Tensor, guide: Tensor) -> Tensor:
    return sharpening.joint_bilateral(signal, guide)


def guided(settings: Plain, x: Tensor, sigma: float, positive: Tensor, negative: Tensor) -> Tensor:
    unseen: Any = SimpleNamespace(true=None, emphasised_above=math.inf)  # what the UNet is told: its answer is given
    guide = Guide(unseen, unseen, unseen, trajectory._guidance(spec_of(settings)), unseen)
    ask = guide.evaluate(x, sigma, _run(settings).table.timestep(sigma))
    numbers = (torch.tensor([number]) for number in (sigma, ask.scale, ask.sharpened, ask.rescale))
    return _guided([ask], torch.stack([positive, negative]), *numbers)[0]


def size_ids(settings: Plain, timestep: int) -> tuple[Tensor, Tensor]:
    size = Size(width=settings["width"], height=settings["height"])
    ids = trajectory._size_ids(spec_of(settings), Inputs(size), DEVICE)
    return (ids.positive, ids.negative) if timestep > ids.emphasised_above else (ids.true, ids.true)


# -- denoising


def evaluate(models: Plain, row: Plain, sigma: float) -> Tensor:
    with refusals(), torch.no_grad():
        (guide,) = _guides(models, [row])
        ask = guide.evaluate(row["latents"], sigma, _run(row["settings"]).table.timestep(sigma))
        return _stage().run([ask]).values[0]


def denoise(models: Plain, rows: Sequence[Plain], evaluations: Sequence[Evaluations]) -> list[Tensor]:
    """evaluations: of each row, to be filled."""
    routines: list[Routine[Tensor]] = []
    questions: list[list[tuple[Tensor, float]]] = [[] for _ in rows]
    answers: list[list[Tensor]] = [[] for _ in rows]
    with refusals(), torch.no_grad():
        for row, guide, heard in zip(rows, _guides(models, rows), answers, strict=True):
            run, name = _run(row["settings"]), row["settings"]["sampler"]
            sampler = _sampler(name, row["latents"], run, row.get("noise", 0))
            denoiser = denoisers.evaluate(guide, run.table)
            if name == "lcm":
                denoiser = denoisers.consistent(denoiser, run.table)
            routines.append(denoisers.sample(sampler, denoisers.watched(denoiser, run, heard.append)))
        results = _side_by_side(routines, questions)
    for found, asked, heard in zip(evaluations, questions, answers, strict=True):
        found += [(x, sigma, clean) for (x, sigma), clean in zip(asked, heard, strict=True)]
    return results


def _stage() -> EvaluationStage:
    return EvaluationStage(UNetRunner(RowContext()), Gatherer(DEVICE), RowCaps(2**30))


def _side_by_side(routines: Sequence[Routine[Tensor]], questions: Sequence[list[tuple[Tensor, float]]]) -> list[Tensor]:
    """Run routines to their ends; in each round what may share a call does."""
    stage = _stage()
    results: dict[int, Tensor] = {}
    answers: dict[int, Any] = dict.fromkeys(range(len(routines)))
    while answers:
        groups: dict[Any, dict[int, Evaluate]] = {}
        for at, answer in answers.items():
            try:
                ask = routines[at].send(answer)
                while isinstance(ask, Advance):
                    ask = routines[at].send(None)
            except StopIteration as end:
                results[at] = end.value
                continue
            questions[at].append((ask.x, ask.sigma))
            groups.setdefault(ask.key, {})[at] = ask
        answers = {}
        for group in groups.values():
            answers |= zip(group, stage.run(list(group.values())).values, strict=True)
    return [results[at] for at in range(len(routines))]


def _guides(models: Plain, rows: Sequence[Plain]) -> list[Guide]:
    """Of each row; weights and control networks that rows share are built once."""
    store = store_of(models) if any(row.get("loras") for row in rows) else None
    networks: dict[tuple[int, Path], Any] = {}

    def branch(unet: Any, hint: Plain) -> ControlImage:
        key = id(unet), hint["path"]
        if key not in networks:
            networks[key] = control_lora.build_control(unet, hint["path"])
        embedded = HintStage(DEVICE).run([EncodeHint(networks[key], hint["hint"])]).values[0]
        until = trajectory._until(hint.get("stop_at", 1.0), sdxl_table())
        return ControlImage(networks[key], embedded, hint.get("weight", 1.0), until)

    def guide(row: Plain) -> Guide:
        spec, loras = spec_of(row["settings"]), row.get("loras", ())
        variant: Any = SimpleNamespace(unet=models["unet"], group=None)
        if store is not None and loras:
            variant = store.get(variant_spec_of(loras))
        height, width = row["latents"].shape[-2:]
        inputs = Inputs(spec.size or Size(width=8 * width, height=8 * height))
        guided = spec.guidance.acts
        hints = [hint for hint in row.get("controls", ()) if hint.get("weight", 1.0) and hint.get("stop_at", 1.0) > 0]
        return Guide(
            variant.unet,
            Conditioning(*row["positive"]),
            Conditioning(*row["negative"]) if guided else None,
            trajectory._guidance(spec),
            trajectory._size_ids(spec, inputs, DEVICE),
            tuple(branch(variant.unet, hint) for hint in hints),
            variant.group,
        )

    return [guide(row) for row in rows]


def control_residuals(
    models: Plain,
    path: Path,
    x: Tensor,
    timesteps: Tensor,
    context: Tensor,
    pooled: Tensor,
    size_ids: Tensor,
    hint: Tensor,
) -> list[Tensor]:
    with refusals(), torch.no_grad():
        network = control_lora.build_control(models["unet"], path)
        added = {"text_embeds": pooled, "time_ids": size_ids}
        embedded = network.controlnet_cond_embedding(hint)
        down, middle = control_lora.control_residuals(network, x, timesteps, context, added, embedded)
    return [*down, middle]


def softness(count: int) -> list[float]:
    return control_lora.softness_ramp(count)


# -- whole pictures


def draw(folder: Path, jobs: Sequence[Plain]) -> list[Pixels]:
    with refusals():
        drawer = Drawer.open(DrawingSettings(family=folder, rows=16))
        try:
            heard = [_submit(drawer, f"job {at}", job) for at, job in enumerate(jobs)]
            return [_images(events) for events in heard]
        finally:
            drawer.close()


def _submit(drawer: Drawer, name: str, job: Plain) -> "queue.Queue[Any]":
    loras = [(True, *each) for each in job.get("performance", ())] + [(False, *each) for each in job.get("loras", ())]
    controls = job.get("controls", ())
    kinds = {control: kind for kind, control in CONTROLS.items()}
    structures = [Structure(kind=kinds[key], source="", weight=of, stop_at=end) for key, _, of, end in controls]
    spec = spec_of(
        job["settings"],
        job["seeds"],
        structures,
        prompt=job["prompt"],
        negative_prompt=job.get("negative", ""),
        loras=tuple(Lora(source=str(path), scale=scale, performance=of) for of, path, scale in loras),
    )
    pictures = [each for each in (job.get("start"), *(each[1] for each in controls)) if each is not None]
    found = [FoundLora(lora, path) for lora, (_, path, _) in zip(spec.loras, loras, strict=True)]
    inputs = prepare(spec, pictures, found)
    events: queue.Queue[Any] = queue.Queue()
    drawer.submit(name, spec, inputs, events.put)
    return events


def _images(events: "queue.Queue[Any]") -> Pixels:
    while not isinstance(event := events.get(timeout=300), Drawn):
        if isinstance(event, BaseException):
            raise event
    return event.images
