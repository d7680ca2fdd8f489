"""Requests of unlike LoRA sets: rows that carry them, weights that have them merged, and `@serve.batch`, on the pocket
family.

Every request has a set of its own, of one or two LoRAs that nobody has used before. Every competitor starts with the
family and the performance LoRA of all requests, gets the same requests at the same times, round by round in turn, and
reads, merges and switches as it does; what counts are the ratios. Time is CPU time of this process, which stands still
while others have the machine.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.competitors import BATCH, ROWS, WAIT_S, Competitor, OneByOne, OurEngine, ServeBatch
from benchmarks.lora_files import write_lora
from benchmarks.mixed_arrivals import FAMILY
from benchmarks.plain import Work
from benchmarks.report import Cell, Report, Table, machine
from benchmarks.rounds import Arrival, Round, compared, in_turn, medians, play
from models.pocket.write import write_family
from pipelines.inputs import FoundLora
from pipelines.preparing import find_loras, prepare
from pipelines.spec import Guidance, Lora, Size, Spec
from pipelines.weights.family import Family, load_family
from pipelines.weights.variants import VariantStore

VARIANT_BYTES, BRANCH_BYTES = 2**31, 2**28
FAST = Lora(source="sdxl_lcm_lora.safetensors", scale=1.0, performance=True)
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
LAYERS = (ATTENTION, (*ATTENTION, "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"), (*ATTENTION, "conv1", "conv2"))
RANKS = (4, 8, 16)


@dataclass(frozen=True)
class Options:
    """What to measure. gap_s: between two arrivals. guided: with a negative prompt, that is two rows a step. threads:
    of torch; None leaves its choice."""

    jobs: int
    size: int
    steps: int
    gap_s: float
    guided: bool
    rounds: int
    threads: int | None
    out: Path
    command: str


def write_sets(folder: Path, family: Family, count: int, number: int) -> list[list[tuple[Path, float]]]:
    """Sets that no other number has: of three kinds of layers and three ranks, every second one of two LoRAs."""
    files = [
        write_lora(
            folder / f"{number}-{at}.safetensors", family, RANKS[at % 3], 1000 * number + at, LAYERS[at // 3 % 3]
        )
        for at in range(count)
    ]
    return [
        [(path, 0.5 + at / (4 * count)), *([(files[at - 1], 0.25)] if at % 2 else [])] for at, path in enumerate(files)
    ]


def job(family: Family, seed: int, loras: Sequence[tuple[Path, float]], options: Options, steps: int) -> Work:
    found = [FoundLora(Lora(source=path.name, scale=scale), path) for path, scale in loras]
    spec = Spec(
        prompt=f"a red circle beside {seed} blue squares",
        size=Size(width=options.size, height=options.size),
        seeds=(seed,),
        steps=steps,
        sampler="lcm",
        schedule="lcm",
        guidance=Guidance(scale=2.0 if options.guided else 1.0),
        loras=(FAST, *(each.lora for each in found)),
    )
    fast = find_loras(spec.model_copy(update={"loras": (FAST,)}), family.catalogue)
    return Work(f"set {seed}", spec, prepare(spec, (), [*fast, *found]))


def competitors(family: Family) -> dict[str, Callable[[], Competitor]]:
    """What makes each one anew, with nothing but the family at hand."""

    def engine(branch_bytes: int | None) -> Competitor:
        return OurEngine(family, VariantStore(family, VARIANT_BYTES, branch_bytes=branch_bytes))

    return {
        "engine": lambda: engine(BRANCH_BYTES),
        "engine, merged sets": lambda: engine(None),
        "@serve.batch": lambda: ServeBatch(family, VariantStore(family, VARIANT_BYTES), by_sort=False),
        "merge and switch": lambda: OneByOne(family, VariantStore(family, VARIANT_BYTES)),
    }


def run(options: Options) -> Report:
    write_family(FAMILY)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = torch.device("cpu")
    family = load_family(FAMILY, device, torch.float32)
    known = competitors(family)
    figures = Table(
        "CPU seconds until all are drawn, and from a request's arrival to its answer; medians of the rounds"
    )
    ratios = Table("Engine / other, median of the rounds")
    rows = "2 rows" if options.guided else "1 row"
    facts: dict[str, Cell] = {
        **machine(device),
        "requests": f"{options.jobs} of {options.steps} steps, {rows} each, {options.size} x {options.size}",
        "LoRAs": f"{options.jobs} sets of one or two, of ranks {', '.join(map(str, RANKS))}",
        "gap between arrivals, s": options.gap_s,
        "rows a call at most": f"{ROWS} in the engine; {BATCH} jobs a batch of @serve.batch, which waits {WAIT_S} s",
        "rounds": options.rounds,
        "load of the machine before": f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores",
    }
    report = Report("lora_sets", options.command, facts, (figures, ratios))
    played: dict[str, list[Round]] = {name: [] for name in known}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            sets = write_sets(Path(folder), family, options.jobs, number)
            coming = [
                Arrival(at * options.gap_s, job(family, at, loras, options, options.steps))
                for at, loras in enumerate(sets)
            ]
            for name in in_turn([*known], number):
                competitor = known[name]()
                try:
                    play(competitor, [Arrival(0.0, job(family, 0, (), options, 1))])  # whatever happens once only
                    played[name].append(play(competitor, coming))
                finally:
                    competitor.close()
                print(name, played[name][-1].figures, flush=True)
    figures.rows += [_row(name, rounds) for name, rounds in played.items()]
    ratios.rows += compared(played)
    report.publish(options.out)
    return report


def _row(competitor: str, played: Sequence[Round]) -> dict[str, Cell]:
    calls = [call for each in played for call in each.calls]
    return {
        "competitor": competitor,
        **medians(played),
        "rows a call": sum(call.rows for call in calls) / len(calls),
        "wall s": statistics.median(each.wall_s for each in played),
    }


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lora_sets", description=__doc__)
    parser.add_argument("--jobs", type=int, default=16, help="requests, each of a set of its own")
    parser.add_argument("--size", type=int, default=128, help="side of the pictures")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--gap", type=float, default=0.0, help="seconds between two arrivals; 0: all at once")
    parser.add_argument("--guided", action="store_true", help="with a negative prompt")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of torch, which chooses them itself otherwise")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args(arguments)
    run(
        Options(
            jobs=given.jobs,
            size=given.size,
            steps=given.steps,
            gap_s=given.gap,
            guided=given.guided,
            rounds=given.rounds,
            threads=given.threads,
            out=given.out,
            command=" ".join(("python -m benchmarks.lora_sets", *arguments)),
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
