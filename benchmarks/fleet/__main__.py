"""A fleet of 1 to 256 replicas, simulated: the service's policy beside Serve's default one and a clairvoyant.

Traces are played against the real policy (`deployments.autoscaling`), the real routing (`gateway.worker.placing`) and
the real order of claims (`gateway.ledger.order`); what replicas cost is a model (`benchmarks.fleet.costs`). `--compare`
sets the simulation beside a real run instead (`benchmarks.fleet.comparing`).
"""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from types import MappingProxyType

from benchmarks.fleet.comparing import compare_files
from benchmarks.fleet.costs import read_curve
from benchmarks.fleet.drawing import picture
from benchmarks.fleet.playing import CASES, POLICIES, Played, Task, play
from benchmarks.report import Cell, Report, Table

RESULTS = Path(__file__).parent.parent / "results"
LEAST_IS_WORST = frozenset({"utilisation", "as full replicas", "as full calls"})


def worst(played: Sequence[Played]) -> dict[str, Cell]:
    """Each figure of the seed that shows it worst."""
    return {
        name: (min if name in LEAST_IS_WORST else max)(each.figures[name] for each in played)
        for name in played[0].figures
    }


class Results:
    """All that was played so far, as a report that is written again and again."""

    def __init__(self, given: argparse.Namespace, command: str) -> None:
        self._given, self._command = given, command
        self._played: list[Played] = []

    def add(self, played: Played) -> None:
        self._played.append(played)
        self.report().write(self._given.out)
        for case in CASES:
            strips = {
                name: min(of_policy, key=lambda each: each.task.seed).samples
                for name, of_policy in self._by_policy(case)
            }
            if strips:
                drawn = picture(strips, f"{CASES[case]}: {self._given.requests:,} requests, seed 1")
                (self._given.out / f"fleet_{case}.svg").write_text(drawn, encoding="utf-8")

    def report(self) -> Report:
        task = self._played[0].task
        costs, shape = task.costs(), task.shape()
        facts: dict[str, Cell] = {
            "milliseconds of a call by its rows": read_curve(task.results).source,
            "ms of a row in a full call": read_curve(task.results).full_ms,
            "requests": f"{shape.requests:,} in {shape.seconds / 3600:.1f} hours, the whole wave, once up and down",
            "a second": f"{shape.mean:g} in the mean, from {shape.mean / 2:g} to {shape.mean * 1.5:g}",
            "burst": f"10 times as many for {shape.burst_s:g} s",
            "LoRAs": f"{shape.sets} sets by Zipf {shape.zipf:g}; a replica keeps {costs.sets} of them at hand",
            "fetching and reading a set, s": f"{costs.fetch_s:g}, {costs.read_s:g}",
            "keys": f"{shape.keys}, by the same power",
            "replicas": f"1 to {task.most}; a start takes {costs.start_s:g} s and is paid for",
            "seeds": ", ".join(str(seed) for seed in sorted({each.task.seed for each in self._played})),
        }
        return Report("fleet", self._command, facts, [*self._tables()])

    def _tables(self) -> Iterator[Table]:
        for case, title in CASES.items():
            rows: list[dict[str, Cell]] = []
            hours: dict[str, float] = {}
            for name, played in self._by_policy(case):
                found = worst(played)
                hours[name] = max(each.figures["replica hours"] for each in played)
                rows.append({"policy": name, "seeds": len(played), **found})
            known = hours.get(SHOWN["clairvoyant"])
            for row in rows:
                row["cost / clairvoyant's"] = hours[str(row["policy"])] / known if known else None
            yield Table(f"{title}: of the seeds the worst", rows)

    def _by_policy(self, case: str) -> Iterator[tuple[str, list[Played]]]:
        for policy in POLICIES:
            played = [each for each in self._played if (each.task.case, each.task.policy) == (case, policy)]
            if played:
                yield SHOWN[policy], played


SHOWN: Mapping[str, str] = MappingProxyType(
    {"work": "by work (ours)", "serve": "Serve's default", "clairvoyant": "clairvoyant"}
)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=(1, 2, 3, 4, 5))
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=POLICIES)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=("burst", "wave"))
    parser.add_argument("--most", type=int, default=256, help="replicas")
    parser.add_argument("--start", type=float, default=60.0, help="seconds that a replica takes to start")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--compare", type=Path, nargs="+", help="real runs, as JSON lines")
    given = parser.parse_args(arguments)
    command = " ".join(("python -m benchmarks.fleet", *arguments))
    if given.compare is not None:
        compared, report = compare_files(given.compare, command)
        report.publish(given.out)
        return 0 if not any(each.disagrees_in() for each in compared) else 1
    tasks = [
        Task(case, seed, policy, given.requests, given.most, given.start, RESULTS)
        for policy in given.policies
        for seed in given.seeds
        for case in given.cases
    ]
    results = Results(given, command)
    given.out.mkdir(parents=True, exist_ok=True)
    for played in _played(tasks, given.workers):
        print(played.task.case, played.task.seed, played.task.policy, played.figures, flush=True)
        results.add(played)
    print(results.report().markdown())
    return 0


def _played(tasks: Sequence[Task], workers: int) -> Iterator[Played]:
    """As they are ready."""
    if workers == 1:
        yield from map(play, tasks)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(play, task) for task in tasks]):
            yield done.result()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
