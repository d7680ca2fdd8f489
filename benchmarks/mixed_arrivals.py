"""Unlike jobs that arrive over time: the engine, `@serve.batch` and one job after the other, on the pocket family.

The jobs take 4, 8, 30 and 60 steps, with and without a control image; their arrivals are drawn from a seed. Every
competitor gets the same jobs at the same times, round by round in turn, and what counts are the ratios. Time is CPU
time of this process, which stands still while others have the machine; jobs arrive by the clock on the wall.
"""

import argparse
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.competitors import BATCH, ROWS, WAIT_S, Competitor, OneByOne, OurEngine, ServeBatch
from benchmarks.plain import Work
from benchmarks.report import Cell, Report, Table, machine
from benchmarks.rounds import Arrival, Round, compared, in_turn, medians, play
from benchmarks.timeline import timeline
from models.pocket.write import write_family
from pipelines.preparing import find_loras, prepare
from pipelines.spec import Guidance, Lora, Size, Spec, Structure
from pipelines.weights.family import Family, load_family
from pipelines.weights.variants import VariantStore

FAMILY = Path(__file__).parent.parent / ".cache" / "pocket"
VARIANT_BYTES = 2**31  # every variant of every job: merging is not what is measured
LIGHTNING, LCM = (Lora(source=f"sdxl_{name}_lora.safetensors", scale=1.0) for name in ("lightning_4step", "lcm"))
HEAD_START_S = 0.5  # of the long jobs before the short one
BESIDE_ROUNDS = 3  # of the short job beside long ones
WARM_UP_STEPS = 2


@dataclass(frozen=True)
class Options:
    """What to measure. steps: of the four sorts of jobs, which are drawn by Lightning, LCM, and twice Euler with
    guidance. gap_s: mean time between two arrivals. threads: of torch; None leaves its choice. neighbours: long jobs
    beside the short one."""

    jobs: int
    size: int
    gap_s: float
    rounds: int
    seed: int
    steps: tuple[int, int, int, int]
    threads: int | None
    neighbours: tuple[int, ...]
    out: Path
    command: str


def job(family: Family, sort: int, steps: int, size: int, seed: int, *, controlled: bool, plain: bool = False) -> Work:
    """A job of the sort-th performance. plain: on the family's own weights, whatever the sort."""
    guided = sort >= 2
    pixels = np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8)
    spec = Spec(
        prompt=f"a red circle beside {seed} blue squares",
        size=Size(width=size, height=size),
        seeds=(seed,),
        steps=steps,
        sampler="lcm" if sort == 1 else "euler",
        schedule="lcm" if sort == 1 else "sgm_uniform",
        guidance=Guidance(scale=4.0 if guided else 1.0),
        loras=() if guided or plain else ((LIGHTNING, LCM)[sort],),
        pictures=(Structure(kind="PyraCanny", source=""),) if controlled else (),
    )
    inputs = prepare(spec, [pixels] * controlled, find_loras(spec, family.catalogue))
    return Work(f"{steps} steps{', control' if controlled else ''}", spec, inputs)


def arrivals(family: Family, options: Options) -> list[Arrival]:
    """As many jobs of each sort, with and without control, in an order and at times that the seed decides."""
    chance = random.Random(options.seed)
    sorts = [(sort, controlled) for sort in range(4) for controlled in (False, True)]
    drawn = [sorts[at % len(sorts)] for at in range(options.jobs)]
    chance.shuffle(drawn)
    found, at = [], 0.0
    for seed, (sort, controlled) in enumerate(drawn):
        work = job(family, sort, options.steps[sort], options.size, seed, controlled=controlled)
        found.append(Arrival(at, work))
        at += options.gap_s * chance.expovariate(1.0)
    return found


def _one_of_each_sort(family: Family, options: Options, steps: int) -> list[Work]:
    return [
        job(family, sort, steps, options.size, seed=sort, controlled=controlled)
        for sort in range(4)
        for controlled in (False, True)
    ]


def run(options: Options) -> Report:
    write_family(FAMILY)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = torch.device("cpu")
    family = load_family(FAMILY, device, torch.float32)
    variants = VariantStore(family, VARIANT_BYTES)
    competitors: list[Competitor] = [
        OurEngine(family, variants),
        ServeBatch(family, variants, by_sort=False),
        ServeBatch(family, variants, by_sort=True),
        OneByOne(family, variants),
    ]
    coming = arrivals(family, options)
    figures = Table("CPU seconds until all are drawn, and from a job's arrival to its answer; medians of the rounds")
    ratios = Table("Engine / other, median of the rounds")
    short = Table(f"A job of {options.steps[0]} steps beside jobs of {options.steps[3]}, times its time alone")
    facts: dict[str, Cell] = {
        **machine(device),
        "jobs": f"{options.jobs} of {options.steps} steps, half with control, {options.size} x {options.size}",
        "mean gap between arrivals, s": options.gap_s,
        "rows a call at most": f"{ROWS} in the engine; {BATCH} jobs a batch of @serve.batch, which waits {WAIT_S} s",
        "rounds": options.rounds,
    }
    report = Report("mixed_arrivals", options.command, facts, (figures, ratios, short))
    try:
        for competitor in competitors:  # whatever happens once only
            play(competitor, [Arrival(0.0, work) for work in _one_of_each_sort(family, options, WARM_UP_STEPS)])
        rounds: dict[str, list[Round]] = {competitor.name: [] for competitor in competitors}
        for number in range(options.rounds):
            for competitor in in_turn(competitors, number):
                rounds[competitor.name].append(play(competitor, coming))
                print(competitor.name, rounds[competitor.name][-1].figures, flush=True)
        figures.rows += [_row(name, played) for name, played in rounds.items()]
        ratios.rows += compared(rounds)
        last = {name: played[-1].calls for name, played in rounds.items()}
        picture = timeline(last, [each.at for each in coming], f"{options.jobs} jobs, {options.size} x {options.size}")
        for competitor in competitors[:2]:
            short.rows += _beside(competitor, family, options)
    finally:
        for competitor in competitors:
            competitor.close()
    report.write(options.out)
    (options.out / "mixed_arrivals.svg").write_text(picture, encoding="utf-8")
    print(report.markdown())
    return report


def _row(competitor: str, played: Sequence[Round]) -> dict[str, Cell]:
    calls = [call for each in played for call in each.calls]
    return {
        "competitor": competitor,
        **medians(played),
        "rows": sum(call.rows for call in calls) / len(played),
        "useful rows a call": sum(call.useful for call in calls) / len(calls),
        "wall s": statistics.median(each.wall_s for each in played),
    }


def _beside(competitor: Competitor, family: Family, options: Options) -> list[dict[str, Cell]]:
    """A short job, with weights of its own and with those of the long jobs, which have guidance."""
    rows: list[dict[str, Cell]] = []
    for plain in (False, True):
        brief = job(family, 0, options.steps[0], options.size, 1, controlled=False, plain=plain)
        alone = statistics.median(play(competitor, [Arrival(0.0, brief)]).total for _ in range(5))
        for neighbours in options.neighbours:
            long = [
                Arrival(0.0, job(family, 3, options.steps[3], options.size, 10 + at, controlled=False))
                for at in range(neighbours)
            ]
            taken = [
                play(competitor, [*long, Arrival(HEAD_START_S, brief)]).latencies[-1] for _ in range(BESIDE_ROUNDS)
            ]
            rows.append(
                {
                    "competitor": competitor.name,
                    "weights": "those of the long jobs" if plain else "its own (Lightning)",
                    "long jobs": neighbours,
                    "alone s": alone,
                    "beside s": statistics.median(taken),
                    "beside / alone": statistics.median(taken) / alone,
                }
            )
    return rows


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mixed_arrivals", description=__doc__)
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--size", type=int, default=256, help="side of the pictures")
    parser.add_argument("--gap", type=float, default=0.3, help="mean seconds between two arrivals; 0: all at once")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--steps", type=int, nargs=4, default=(4, 8, 30, 60), help="of the four sorts of jobs")
    parser.add_argument("--threads", type=int, help="of torch, which chooses them itself otherwise")
    parser.add_argument("--neighbours", type=int, nargs="*", default=(1, 3), help="long jobs beside the short one")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args(arguments)
    lightning, lcm, speed, quality = given.steps
    run(
        Options(
            jobs=given.jobs,
            size=given.size,
            gap_s=given.gap,
            rounds=given.rounds,
            seed=given.seed,
            steps=(lightning, lcm, speed, quality),
            threads=given.threads,
            neighbours=tuple(given.neighbours),
            out=given.out,
            command=" ".join(("python -m benchmarks.mixed_arrivals", *arguments)),
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
