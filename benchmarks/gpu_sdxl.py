"""What SDXL costs on a device: the engine beside a plain diffusers loop and the floor. `--help` lists the parts.

Needs pipelines/, torch, transformers and diffusers, and neither weights nor network: the architecture is the true one,
its weights are random, and no time depends on their values.
"""

import argparse
import queue
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pipelines.denoising.asks import Fork, Routine, Stage
from pipelines.denoising.caps import RowCaps
from pipelines.denoising.denoiser import Denoiser, Evaluate, Guidance, Guide, SizeIds
from pipelines.denoising.engine import Engine
from pipelines.denoising.jobs import Job
from torch import Tensor

from benchmarks.plain_sdxl import GUIDANCE, PlainLoop
from benchmarks.report import Cell, Report, Table, machine, shown
from benchmarks.sdxl import FACTOR, LATENT_CHANNELS, Cost, build, cost
from pipelines.denoising.samplers import euler
from pipelines.denoising.schedules import sdxl_table, sgm_uniform
from pipelines.events import Drawn
from pipelines.stages.vae import DecodeLatent, DecodeStage

WARM_UPS = 2
ENOUGH_S, MOST_CALLS = 1.0, 20  # a measured mean is over this long or this many calls, whichever ends first
RATES = 5  # of the matrix rate, which is a floor's base: the best counts
RECOMPILES = 64  # torch gives up compiling after 8 shapes, which is as many as sizes times rows


@dataclass(frozen=True)
class Options:
    """What to measure. sizes: sides of square pictures. pictures: how many are drawn at once. compiled: what of the
    UNet torch.compile is given: nothing, its repeated blocks or the whole."""

    sizes: tuple[int, ...]
    rows: tuple[int, ...]
    steps: tuple[int, ...]
    pictures: tuple[int, ...]
    repeats: int
    compiled: str
    pocket: bool
    device: torch.device
    out: Path | None
    command: str


class Bench:
    """One run over all that the options name; results are printed as they come and written after each."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._device = options.device
        dtype = torch.bfloat16 if options.device.type == "cuda" else torch.float32
        self._models = build(pocket=options.pocket, device=options.device, dtype=dtype)
        self._costs = {side: cost(side, pocket=options.pocket) for side in options.sizes}
        self._rate = self._matrix_rate()
        self._facts: dict[str, Cell] = {
            **machine(options.device),
            "architecture": "pocket size, not SDXL" if options.pocket else "SDXL",
            "weights": str(dtype).removeprefix("torch."),
            "measured matrix rate, TFLOP/s": self._rate / 1e12,
        }
        for side, each in self._costs.items():
            self._facts[f"TFLOP of a UNet row and of a VAE decode at {side}"] = (
                f"{each.unet_row / 1e12:.4g}, {each.decode / 1e12:.4g}"
            )
        self._parts = Table("Around the UNet")
        self._calls = Table("UNet calls")
        self._pictures = Table("Pictures: the engine beside a plain diffusers loop")
        name = "gpu_sdxl_pocket" if options.pocket else "gpu_sdxl"
        self._report = Report(name, options.command, self._facts, (self._parts, self._calls, self._pictures))
        print(self._report.markdown(), flush=True)

    def run(self) -> Report:
        with torch.inference_mode():
            self._measure_parts()
            self._measure("eager")
            if self._options.compiled != "none":
                torch._dynamo.config.recompile_limit = RECOMPILES
                if self._options.compiled == "blocks":
                    unet: Any = self._models.unet  # diffusers leaves this method without types
                    unet.compile_repeated_blocks(dynamic=False)
                else:
                    self._models.unet.compile(dynamic=False)
                self._measure(f"compiled ({self._options.compiled})")
        # a rate that fell says that the device was hot or shared, and that the tables are to be doubted
        self._facts["matrix rate at the end, TFLOP/s"] = self._matrix_rate() / 1e12
        self._publish()
        return self._report

    # -- parts

    def _matrix_rate(self) -> float:
        """Operations a second of a large square matrix product in the weights' type."""
        side = 8192 if self._device.type == "cuda" else 512
        one, other = (torch.randn(side, side, device=self._device, dtype=self._models.dtype) for _ in range(2))
        return 2 * side**3 / min(self._mean_s(lambda: one @ other) for _ in range(RATES))

    def _measure_parts(self) -> None:
        self._add(self._parts, {"part": "both text encoders, one prompt", "ms": self._ms(self._models.encode_texts)})
        for side in self._options.sizes:
            stage = DecodeStage(self._models.vae)
            asks = [DecodeLatent(self._noise(0, side))]
            floor = self._costs[side].decode / self._rate * 1e3
            ms = self._ms(partial(stage.run, asks))
            part = f"VAE decode at {side}, to pixels in memory"
            self._add(self._parts, {"part": part, "ms": ms, "floor ms": floor, "floor / ms": floor / ms})

    def _measure(self, mode: str) -> None:
        for side in self._options.sizes:
            for rows in self._options.rows:
                self._measure_call(mode, side, rows)
        for side in self._options.sizes:
            for guided in (False, True):
                for steps in self._options.steps:
                    for pictures in self._options.pictures:
                        self._measure_pictures(mode, side, steps, pictures, guided=guided)

    def _measure_call(self, mode: str, side: int, rows: int) -> None:
        """One call of the denoiser's stage, and of the bare UNet with its arguments ready."""
        stage = Denoiser(RowCaps(rows))
        asks = [Evaluate(self._noise(row, side), 1.0, 500, self._guide(row, side, guided=False)) for row in range(rows)]
        loop = PlainLoop(self._models, side, rows, guided=False)
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        stage.run(asks)
        self._wait()
        first_s = time.perf_counter() - began
        staged, bare = self._ms(lambda: stage.run(asks)), self._ms(loop.call)
        floor = rows * self._costs[side].unet_row / self._rate * 1e3
        row: dict[str, Cell] = {
            "mode": mode,
            "size": side,
            "rows": rows,
            "ms, engine's stage": staged,
            "ms, bare UNet": bare,
            "ms a row": staged / rows,
            "floor ms": floor,
            "floor / ms": floor / staged,
            "first call s": first_s,
        }
        if self._device.type == "cuda":
            row["peak GiB"] = torch.cuda.max_memory_allocated() / 2**30
        self._add(self._calls, row)

    def _measure_pictures(self, mode: str, side: int, steps: int, pictures: int, *, guided: bool) -> None:
        """Both competitors draw in turn, so that what disturbs the machine disturbs both."""
        rows = pictures * (2 if guided else 1)
        loop = PlainLoop(self._models, side, pictures, guided=guided)
        ours, plain = [], []
        # the engine has the row cap of the whole call, as the loop has
        stages: dict[type, Stage] = {Evaluate: Denoiser(RowCaps(rows)), DecodeLatent: DecodeStage(self._models.vae)}
        engine = Engine(stages, counted=Denoiser.name)
        try:
            guides = [self._guide(at, side, guided=guided) for at in range(pictures)]
            self._draw(engine, side, 1, guides)
            loop.draw(1)
            for _ in range(self._options.repeats):
                ours.append(_seconds(lambda: self._draw(engine, side, steps, guides)))
                plain.append(_seconds(lambda: loop.draw(steps)))
        finally:
            engine.close()
        ours_s, plain_s = statistics.median(ours), statistics.median(plain)
        floor_s = _floor(self._costs[side], steps * rows, pictures) / self._rate
        self._add(
            self._pictures,
            {
                "mode": mode,
                "size": side,
                "steps": steps,
                "guidance": "yes" if guided else "no",
                "pictures at once": pictures,
                "engine s": ours_s,
                "diffusers s": plain_s,
                "engine / diffusers": ours_s / plain_s,
                "engine pictures/s": pictures / ours_s,
                "diffusers pictures/s": pictures / plain_s,
                "floor s": floor_s,
                "floor / engine": floor_s / ours_s,
            },
        )

    def _draw(self, engine: Engine, side: int, steps: int, guides: Sequence[Guide]) -> None:
        """Hand the engine one job a picture, all at once, and wait for the last."""
        ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for at, guide in enumerate(guides):
            noise = self._noise(at, side)
            engine.submit(
                Job(
                    id=str(at),
                    make=partial(_routine, noise, guide, steps),
                    finish=lambda images, timings: Drawn(np.stack(images), timings),
                    steps=steps,
                    on_event=ended.put,
                )
            )
        missing = len(guides)
        while missing:
            event = ended.get()
            if isinstance(event, BaseException):
                raise event
            missing -= isinstance(event, Drawn)

    # -- help

    def _guide(self, seed: int, side: int, *, guided: bool) -> Guide:
        models = self._models
        negative = models.conditioning(seed + 100) if guided else None
        sides = models.size_ids(side)
        guidance = Guidance(GUIDANCE if guided else 1.0)
        return Guide(models.unet, models.conditioning(seed), negative, guidance, SizeIds(sides, sides, sides))

    def _noise(self, seed: int, side: int) -> Tensor:
        shape = (LATENT_CHANNELS, side // FACTOR, side // FACTOR)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(self._device)

    def _ms(self, act: Callable[[], object]) -> float:
        return self._mean_s(act) * 1e3

    def _mean_s(self, act: Callable[[], object]) -> float:
        for _ in range(WARM_UPS):
            act()
        self._wait()
        began, calls, enough = time.perf_counter(), 0, ENOUGH_S / (100 if self._options.pocket else 1)
        while calls < MOST_CALLS and time.perf_counter() - began < enough:
            act()
            calls += 1
            if calls % 5 == 0:  # else the queue of the device runs ahead of the clock
                self._wait()
        self._wait()
        return (time.perf_counter() - began) / calls

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    def _add(self, table: Table, row: dict[str, Cell]) -> None:
        if not table.rows or list(table.rows[-1]) != list(row):
            print(f"{table.title}: {' | '.join(row)}", flush=True)
        table.rows.append(row)
        print(" | ".join(shown(value) for value in row.values()), flush=True)
        self._publish()

    def _publish(self) -> None:
        if self._options.out is not None:
            self._report.write(self._options.out)


def _routine(noise: Tensor, guide: Guide, steps: int) -> Routine:
    pictures = yield Fork([_trajectory(noise, guide, steps)])
    return pictures


def _trajectory(noise: Tensor, guide: Guide, steps: int) -> Routine:
    """A picture as `pipelines.picture` draws it, from ready conditioning and without a spec, which needs pydantic."""
    table = sdxl_table()
    sigmas = sgm_uniform(table, steps)
    sampler = euler(noise * float(sigmas[0]), sigmas)
    try:
        x, sigma = next(sampler)
        while True:
            x, sigma = sampler.send((yield Evaluate(x, sigma, table.timestep(sigma), guide)))
    except StopIteration as end:
        pixels = yield DecodeLatent(end.value)
        return pixels


def _floor(each: Cost, rows: int, pictures: int) -> float:
    return rows * each.unet_row + pictures * each.decode


def _seconds(act: Callable[[], object]) -> float:
    """act leaves nothing on the device: it ends with pixels in memory."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def options(arguments: Sequence[str]) -> Options:
    """Read the command line. The defaults are the whole table; name less to fit a short lease of a machine."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_sdxl", description=__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, help="sides of the pictures (1024 512)")
    parser.add_argument("--rows", nargs="+", type=int, help="rows of a UNet call (1 2 4 8)")
    parser.add_argument("--steps", nargs="*", type=int, help="of a picture (4 8 20 30); none: no pictures")
    parser.add_argument("--pictures", nargs="+", type=int, help="drawn at once (1 4)")
    parser.add_argument("--repeats", type=int, default=3, help="of each picture; the median counts")
    parser.add_argument("--compile", choices=("none", "blocks", "whole"), default="none", help="measure compiled too")
    parser.add_argument("--pocket", action="store_true", help="the same code at pocket size, on the CPU")
    parser.add_argument("--device", default=None, help="cuda, or cpu when there is none")
    parser.add_argument("--out", type=Path, default=None, help="folder for gpu_sdxl.md and .json (gpu_sdxl_pocket)")
    given = parser.parse_args(arguments)
    device = given.device or ("cuda" if torch.cuda.is_available() and not given.pocket else "cpu")
    if device == "cpu" and not given.pocket:
        parser.error("there is no GPU here; --pocket tries the benchmark on the CPU, --device cpu insists")
    return Options(
        sizes=tuple(given.sizes or ((128, 64) if given.pocket else (1024, 512))),
        rows=tuple(given.rows or (1, 2, 4, 8)),
        steps=tuple((4, 8, 20, 30) if given.steps is None else given.steps),
        pictures=tuple(given.pictures or (1, 4)),
        repeats=given.repeats,
        compiled=given.compile,
        pocket=given.pocket,
        device=torch.device(device),
        out=given.out,
        command=" ".join(("python -m benchmarks.gpu_sdxl", *arguments)),
    )


def main(arguments: Sequence[str]) -> int:
    Bench(options(arguments)).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
