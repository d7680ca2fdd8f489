"""What SDXL costs on a device: the engine with each of its switches, beside a plain diffusers loop and the floor.

Needs pipelines/, torch, transformers and diffusers, and neither weights nor network: the architecture is the true one,
its weights are random, and no time depends on their values. Each switch is first held to the plain path's answers, and
then timed. What would begin after the budget is left out and named. `--help` lists the parts.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from benchmarks.device.arrivals import ArrivalBench
from benchmarks.device.calls import CallBench, plain_calls, unlike_calls
from benchmarks.device.engine import PLAIN, SWITCHES, Switch
from benchmarks.device.merging import MergingBench
from benchmarks.device.pictures import Batch, PictureBench, batches
from benchmarks.device.rig import Rig, add
from benchmarks.report import Cell, Report, Table, machine
from benchmarks.sdxl import FACTOR, LATENT_CHANNELS
from pipelines.device import PlainDevice
from pipelines.stages.vae import DecodeLatent, DecodeStage

MERGED_STEPS, MERGED_PICTURES = 10, 4  # of the pictures that are drawn while a LoRA is merged

Part = tuple[str, Callable[[], None]]
"""Something to measure, by name."""


@dataclass(frozen=True)
class Options:
    """What to measure. sizes: sides of square pictures. pictures: how many are drawn at once. arrivals: how many arrive
    over time. budget_s: after so long nothing more is begun."""

    sizes: tuple[int, ...]
    rows: tuple[int, ...]
    steps: tuple[int, ...]
    pictures: tuple[int, ...]
    switches: tuple[Switch, ...]
    arrivals: int
    repeats: int
    budget_s: float
    pocket: bool
    device: torch.device
    out: Path | None
    command: str


class Bench:
    """One run over all that the options name; results are printed as they come and written after each part."""

    def __init__(self, options: Options) -> None:
        self._began = time.perf_counter()
        if options.pocket:
            torch.set_num_threads(1)  # of so small a model two would wait for each other
        self._options = options
        self._rig = rig = Rig(options.device, options.sizes, pocket=options.pocket)
        self._facts: dict[str, Cell] = {
            **machine(options.device),
            "architecture": "pocket size, not SDXL" if options.pocket else "SDXL",
            "weights": str(rig.models.dtype).removeprefix("torch."),
            "measured matrix rate, TFLOP/s": rig.rate / 1e12,
        }
        for side, each in rig.costs.items():
            self._facts[f"TFLOP of a UNet row and of a VAE decode at {side}"] = (
                f"{each.unet_row / 1e12:.4g}, {each.decode / 1e12:.4g}"
            )
        self._around = Table("Around the UNet")
        self._calls = CallBench(rig)
        self._pictures = PictureBench(rig, options.repeats)
        self._arrivals = ArrivalBench(rig, options.arrivals)
        self._merging = MergingBench(rig)
        measured = (self._calls, self._pictures, self._arrivals, self._merging)
        name = "gpu_sdxl_pocket" if options.pocket else "gpu_sdxl"
        tables = (self._around, *(bench.table for bench in measured))
        self._report = Report(name, options.command, self._facts, tables)

    def run(self) -> Report:
        left_out = []
        with torch.inference_mode():
            for name, measure in self._plan():
                if time.perf_counter() - self._began >= self._options.budget_s:
                    left_out.append(name)
                    continue
                print(f"-- {time.perf_counter() - self._began:.0f} s: {name}", flush=True)
                measure()
                self._publish()
        self._rig.close()
        # a rate that fell says that the device was hot or shared, and that the tables are to be doubted
        self._facts["matrix rate at the end, TFLOP/s"] = self._rig.clock.matrix_rate(self._rig.models.dtype) / 1e12
        self._facts["seconds in all"] = time.perf_counter() - self._began
        self._facts["left out for want of time"] = "; ".join(left_out) or "nothing"
        self._publish()
        print(self._report.markdown(), flush=True)
        return self._report

    def _plan(self) -> Iterator[Part]:
        """What matters most comes first, and what has to be compiled last, which takes longest."""
        options = self._options
        soon = [switch for switch in options.switches if switch.compiled is None]
        yield "around the UNet", self._measure_around
        yield from self._plan_of(PLAIN)
        yield "plain, beside float32", self._calls.measure_rounding
        for switch in soon:
            yield from self._plan_of(switch)
        if options.arrivals:
            for side in options.sizes:
                ahead = [switch for switch in soon if switch.ahead]
                yield f"arrivals at {side}", partial(self._arrivals.measure, side, (PLAIN, *ahead))
        yield "merging", self._measure_merging
        for switch in options.switches:
            if switch.compiled is not None:
                yield from self._plan_of(switch)

    def _plan_of(self, switch: Switch) -> Iterator[Part]:
        options = self._options
        for side in options.sizes:
            calls = plain_calls(side, options.rows)
            yield f"{switch.name}: calls at {side}", partial(self._calls.measure, switch, calls)
            drawn = batches(side, options.steps, options.pictures)
            yield f"{switch.name}: pictures at {side}", partial(self._pictures.measure, switch, drawn)
        for side in options.sizes:
            unlike = unlike_calls(side)
            yield f"{switch.name}: every kind of row at {side}", partial(self._calls.measure, switch, unlike)

    def _measure_around(self) -> None:
        models, clock = self._rig.models, self._rig.clock
        add(self._around, {"part": "both text encoders, one prompt", "ms": clock.ms(models.encode_texts)})
        stage = DecodeStage(models.vae, PlainDevice(models.device))
        for side in self._options.sizes:
            latent = torch.randn(LATENT_CHANNELS, side // FACTOR, side // FACTOR, device=models.device)
            ms, floor = clock.ms(partial(stage.run, [DecodeLatent(latent)])), self._rig.floor_s(side, 0, 1) * 1e3
            part = f"VAE decode at {side}, to pixels in memory"
            add(self._around, {"part": part, "ms": ms, "floor ms": floor, "floor / ms": floor / ms})

    def _measure_merging(self) -> None:
        batch = Batch(self._options.sizes[0], MERGED_STEPS, MERGED_PICTURES, guided=True)
        drawing = self._rig.path(PLAIN).drawing()
        try:
            self._merging.measure(partial(drawing.draw, batch.drawn_with(self._rig.models)))
        finally:
            drawing.close()

    def _publish(self) -> None:
        if self._options.out is not None:
            self._report.write(self._options.out)


def options(arguments: Sequence[str]) -> Options:
    """Read the command line. The defaults are the whole, in under nine minutes of a large GPU."""
    names = {switch.name.replace(" ", "-"): switch for switch in SWITCHES}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_sdxl", description=__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, help="sides of the pictures (1024 512)")
    parser.add_argument("--rows", nargs="+", type=int, help="rows of a UNet call, at most 16 (1 2 4 8 16)")
    parser.add_argument("--steps", nargs="*", type=int, help="of pictures drawn at once (4 30); none: no pictures")
    parser.add_argument("--pictures", nargs="+", type=int, help="drawn at once, at most 8 (1 4)")
    parser.add_argument("--switches", nargs="*", choices=names, default=list(names), help="what to measure (all)")
    parser.add_argument("--arrivals", type=int, help="pictures that arrive over time (12); 0: none")
    parser.add_argument("--repeats", type=int, help="of pictures drawn at once (2); the median counts")
    parser.add_argument("--budget", type=float, default=450.0, help="seconds after which nothing more is begun")
    parser.add_argument("--pocket", action="store_true", help="the same code at pocket size, on the CPU")
    parser.add_argument("--device", default=None, help="cuda, or cpu when there is none")
    parser.add_argument("--out", type=Path, default=None, help="folder for gpu_sdxl.md and .json (gpu_sdxl_pocket)")
    given = parser.parse_args(arguments)
    device = given.device or ("cuda" if torch.cuda.is_available() and not given.pocket else "cpu")
    if device == "cpu" and not given.pocket:
        parser.error("there is no GPU here; --pocket tries the benchmark on the CPU, --device cpu insists")
    pocket = given.pocket
    return Options(
        sizes=tuple(given.sizes or ((64,) if pocket else (1024, 512))),
        rows=tuple(given.rows or ((2, 8) if pocket else (1, 2, 4, 8, 16))),
        steps=tuple(((2,) if pocket else (4, 30)) if given.steps is None else given.steps),
        pictures=tuple(given.pictures or (1, 4)),
        switches=tuple(names[name] for name in given.switches),
        arrivals=(3 if pocket else 12) if given.arrivals is None else given.arrivals,
        repeats=given.repeats or (1 if pocket else 2),
        budget_s=given.budget,
        pocket=pocket,
        device=torch.device(device),
        out=given.out,
        command=" ".join(("python -m benchmarks.gpu_sdxl", *arguments)),
    )


def main(arguments: Sequence[str]) -> int:
    Bench(options(arguments)).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
