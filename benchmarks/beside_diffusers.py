"""The engine beside diffusers' own SDXL pipeline, in CPU seconds: the same pocket weights, dtype, threads and steps.

Pictures that are wanted at once are jobs of their own for the engine, and one batch for the pipeline, which knows of
them beforehand. Both encode the prompts, denoise with Euler (guided by the plain formula, which is all that the
pipeline has) and decode. They take turns in one process, and hooks of the networks tell what was spent outside them.
"""

import argparse
import queue
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from torch import nn

from benchmarks.plain import plain_unet
from benchmarks.report import Cell, Report, Table, machine
from models.pocket.write import write_family
from pipelines.device import PlainDevice
from pipelines.drawing import Drawer, stages
from pipelines.engine.engine import Engine
from pipelines.events import Drawn
from pipelines.preparing import prepare
from pipelines.spec import Guidance, Size, Spec
from pipelines.unet.row_caps import RowCaps
from pipelines.unet.stage import EvaluationStage
from pipelines.weights.family import Family, load_family
from pipelines.weights.variants import VariantStore

FAMILY = Path(".cache/pocket")
ROUNDS, STEPS, SIZES, PICTURES = 7, 20, (128, 256), (1, 4, 8)
SCALE, NEGATIVE = 5.0, "blurred, dull colours"
MOST_ROWS = 16  # of the engine's calls: as many as the pipeline's largest batch has


@dataclass(frozen=True)
class Case:
    """What is drawn at once."""

    pictures: int
    size: int
    guided: bool
    steps: int


@dataclass
class Cost:
    """Of one drawing. cpu: of the process. networks: the part of it inside UNet, VAE and text encoders. rows: of the
    UNet's calls."""

    cpu: float = 0.0
    wall: float = 0.0
    networks: float = 0.0
    rows: int = 0
    calls: int = 0


class Meter:
    """Knows what the networks of a family take. Everything else in the process must be idle meanwhile."""

    def __init__(self, family: Family, plain: UNet2DConditionModel) -> None:
        """plain: the UNet that the other side uses."""
        self._spent, self._rows, self._calls, self._began = 0.0, 0, 0, 0.0
        for network in (family.unet, plain, family.vae.decoder, *family.text_encoders):
            network.register_forward_pre_hook(self._begin)
            network.register_forward_hook(self._end)
        for unet in (family.unet, plain):
            unet.register_forward_pre_hook(self._count)

    def cost(self, competitor: "Competitor", case: Case, prompts: Sequence[str]) -> Cost:
        """Of one drawing by a competitor."""
        self._spent, self._rows, self._calls = 0.0, 0, 0
        wall, cpu = time.perf_counter(), time.process_time()
        competitor.draw(case, prompts)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        return Cost(cpu, wall, self._spent, self._rows, self._calls)

    def _begin(self, network: nn.Module, arguments: tuple[Any, ...]) -> None:
        self._began = time.process_time()

    def _end(self, network: nn.Module, arguments: tuple[Any, ...], answer: Any) -> None:
        self._spent += time.process_time() - self._began

    def _count(self, network: nn.Module, arguments: tuple[Any, ...]) -> None:
        self._calls += 1
        self._rows += len(arguments[0])


class Ours:
    """The engine behind its drawer: a job a picture, handed over at once."""

    name = "engine"

    def __init__(self, family: Family) -> None:
        self._family = family
        device = PlainDevice(family.device)
        engine = Engine(stages(family, device, RowCaps(MOST_ROWS)), counted=EvaluationStage.name)
        self._drawer = Drawer(engine, family, VariantStore(family, 2**30), device)

    def draw(self, case: Case, prompts: Sequence[str]) -> None:
        events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for at, prompt in enumerate(prompts):
            spec = Spec(
                prompt=prompt,
                negative_prompt=NEGATIVE,
                size=Size(width=case.size, height=case.size),
                seeds=(at,),
                steps=case.steps,
                sampler="euler",
                schedule="sgm_uniform",
                guidance=Guidance(scale=SCALE if case.guided else 1.0),
            )
            self._drawer.submit(str(at), spec, prepare(spec, (), ()), events.put)
        missing = len(prompts)
        while missing:
            event = events.get()
            if isinstance(event, BaseException):
                raise event
            missing -= isinstance(event, Drawn)

    def close(self) -> None:
        self._drawer.close()


class Diffusers:
    """`StableDiffusionXLPipeline`, called once for all pictures."""

    name = "diffusers"

    def __init__(self, family: Family, unet: UNet2DConditionModel) -> None:
        self._pipeline = _pipeline(family, unet)
        self._pipeline.set_progress_bar_config(disable=True)

    def draw(self, case: Case, prompts: Sequence[str]) -> None:
        self._pipeline(
            list(prompts),
            negative_prompt=[NEGATIVE] * len(prompts) if case.guided else None,
            height=case.size,
            width=case.size,
            num_inference_steps=case.steps,
            guidance_scale=SCALE if case.guided else 1.0,
            generator=[torch.Generator().manual_seed(at) for at in range(len(prompts))],
            output_type="np",
        )


def _pipeline(family: Family, unet: UNet2DConditionModel) -> Any:  # diffusers leaves its methods without types
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1
    )
    return StableDiffusionXLPipeline(
        vae=family.vae,
        text_encoder=family.text_encoders[0],
        text_encoder_2=family.text_encoders[1],
        tokenizer=family.tokenizers[0],
        tokenizer_2=family.tokenizers[1],
        unet=unet,
        scheduler=scheduler,
        add_watermarker=False,
    )


Competitor = Ours | Diffusers


def compare(cases: Sequence[Case], rounds: int, family: Family) -> Table:
    """CPU seconds of both, medians over rounds in which they take turns; ratios are the median of the rounds' own."""
    table = Table("CPU seconds, medians; outside: the share outside UNet, VAE and text encoders")
    plain = plain_unet(family.unet)
    meter, ours, theirs = Meter(family, plain), Ours(family), Diffusers(family, plain)
    try:
        for case in cases:
            costs: dict[str, list[Cost]] = {ours.name: [], theirs.name: []}
            for number in range(-1, rounds):
                # no text twice: the engine remembers what it has encoded
                prompts = [f"a red circle beside {case.pictures * number + at} stars" for at in range(case.pictures)]
                turn: tuple[Competitor, ...] = (ours, theirs) if number % 2 else (theirs, ours)
                for competitor in turn:
                    cost = meter.cost(competitor, case, prompts)
                    if number >= 0:  # the first round warms up
                        costs[competitor.name].append(cost)
            table.rows.append(_row(case, costs[ours.name], costs[theirs.name]))
            print(Table("", table.rows[-1:]).markdown().splitlines()[-1], flush=True)
    finally:
        ours.close()
    return table


def _row(case: Case, ours: Sequence[Cost], theirs: Sequence[Cost]) -> dict[str, Cell]:
    if {cost.rows for cost in ours} != {cost.rows for cost in theirs}:
        raise RuntimeError(f"the work differs: {ours[0].rows} rows beside {theirs[0].rows}")
    ratios = [one.cpu / other.cpu for one, other in zip(ours, theirs, strict=True)]
    return {
        "pictures at once": case.pictures,
        "size": case.size,
        "guided": "yes" if case.guided else "no",
        "engine": median(cost.cpu for cost in ours),
        "diffusers": median(cost.cpu for cost in theirs),
        "engine / diffusers": median(ratios),
        "worst round": max(ratios),
        "of wall time": median(one.wall / other.wall for one, other in zip(ours, theirs, strict=True)),
        "outside, engine %": 100 * median(1 - cost.networks / cost.cpu for cost in ours),
        "outside, diffusers %": 100 * median(1 - cost.networks / cost.cpu for cost in theirs),
        "UNet calls, engine": round(median(cost.calls for cost in ours)),
        "UNet calls, diffusers": round(median(cost.calls for cost in theirs)),
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beside_diffusers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="sides of the pictures")
    parser.add_argument("--pictures", type=int, nargs="+", default=PICTURES, help="drawn at once")
    parser.add_argument("--threads", type=int, default=1, help="torch's: of two, one waits for the other and spins")
    parser.add_argument("--out", type=Path, help="folder for the result")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    write_family(FAMILY)
    cases = [
        Case(pictures, size, guided, options.steps)
        for size in options.sizes
        for guided in (True, False)
        for pictures in options.pictures
    ]
    device = torch.device("cpu")
    table = compare(cases, options.rounds, load_family(FAMILY, device, torch.float32))
    command = " ".join(("python -m benchmarks.beside_diffusers", *arguments))
    facts = {**machine(device), "steps": options.steps, "rounds": options.rounds}
    report = Report("beside_diffusers", command, facts, (table,))
    report.publish(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
