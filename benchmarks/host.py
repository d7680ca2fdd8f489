"""What the host costs in a turn of the engine, the UNet left out: this checkout, and another one beside it.

`git worktree add --detach ../before COMMIT && python -m benchmarks.host --beside ../before`

A turn is one UNet call and all that leads to the next one. Kernels and waits are counted on torch's `meta` device, as
if it were a GPU with bfloat16 weights (`benchmarks.counting` says what is what). Microseconds are the CPU time of the
engine's thread, in fp32 on the CPU on one thread of torch's. The other checkout is measured by its own
`benchmarks/host.py`, in turn with this one's.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from benchmarks.counting import HOST, KERNEL, KINDS, LATER, READ, STAGED, UPLOAD, WAITS, Asked, Counts
from benchmarks.report import Cell, Report, Table, machine
from benchmarks.turns import CPU, META, Case, drive

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 5
LATENTS = (128, 16)  # of SDXL at 1024, and of the pocket model at 128
TURNS, REPEATS = 12, 3  # that are timed
COUNTED = 6
SKIPPED = 2  # turns in which jobs begin
LEAST = 16  # the side of a latent where only operations count


GUIDED = Case(1, True), Case(2, True), Case(8, True)
UNGUIDED = Case(1, False), Case(4, False), Case(16, False)
LARGEST = str(GUIDED[-1])
CASES: Mapping[str, Case] = MappingProxyType({str(case): case for case in (*GUIDED, *UNGUIDED)})


class _Counting:
    """Counts by turn. forbidding: waits, from the turn on in which all jobs are under way."""

    def __init__(self, rows: int, *, forbidding: bool = False) -> None:
        self._rows, self._forbidding = rows, forbidding
        self.counts = Counts(ROOT / "pipelines")
        self.turns: list[Counter[Asked]] = []

    def running(self) -> AbstractContextManager[None]:
        return self.counts.counting()

    def turn(self, rows: int) -> None:
        _check(rows, self._rows)
        self.turns.append(self.counts.take())  # of the turn before
        self.counts.forbidding = self._forbidding and len(self.turns) > SKIPPED

    def unet(self) -> AbstractContextManager[None]:
        return self.counts.paused()

    def read(self, tensor: Tensor) -> Tensor:
        return tensor.to(CPU, non_blocking=True)

    def middle(self) -> Counter[Asked]:
        """The turn of the median count."""
        steady = sorted(self.turns[SKIPPED:], key=lambda turn: turn.total())
        return steady[len(steady) // 2]


class _Timing:
    """CPU seconds of the engine's thread by turn."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._at: list[float] = []

    def running(self) -> AbstractContextManager[None]:
        return nullcontext()

    def turn(self, rows: int) -> None:
        _check(rows, self._rows)
        self._at.append(time.thread_time())

    def unet(self) -> AbstractContextManager[None]:
        return nullcontext()

    def read(self, tensor: Tensor) -> Tensor:
        return torch.ones(tensor.shape)

    def turns(self) -> list[float]:
        return [after - before for before, after in pairwise(self._at[SKIPPED:])]


def _check(rows: int, wanted: int) -> None:
    if rows != wanted:
        raise RuntimeError(f"a call of {rows} rows, where {wanted} are measured")


def count(case: Case) -> dict[str, Any]:
    """What a turn asks for on the device path, by kind; kernels by file, waits by place; where it first waits, if waits
    are forbidden; and its operations on the CPU path. Sizes do not matter."""
    turns = _Counting(case.rows), _Counting(case.rows)
    drive(case, LEAST, COUNTED, META, turns[0])
    drive(case, LEAST, COUNTED, CPU, turns[1])
    turn, on_cpu = (each.middle() for each in turns)
    files: Counter[str] = Counter()
    for (kind, place), n in turn.items():
        if kind == KERNEL:
            files[place.split()[0]] += n
    return {
        "kinds": {kind: sum(n for (of, _), n in turn.items() if of == kind) for kind in KINDS},
        "kernels by file": dict(files),
        "waits by place": {f"{kind}: {place}": n for (kind, place), n in sorted(turn.items()) if kind in WAITS},
        "first wait": first_wait(case),
        "CPU path": on_cpu.total(),
    }


def first_wait(case: Case) -> str:
    """Where the device path stops when nothing may wait; empty when it runs to its end."""
    counting = _Counting(case.rows, forbidding=True)
    try:
        drive(case, LEAST, COUNTED, META, counting)
    except Exception:
        if not counting.counts.waited:
            raise
    return counting.counts.waited


def microseconds(case: Case, latent: int, device: torch.device) -> float | None:
    """CPU time of a turn, the median; None where this path cannot run on the device."""
    spent: list[float] = []
    for _ in range(REPEATS):
        timing = _Timing(case.rows)
        try:
            drive(case, latent, TURNS, device, timing)
        except Exception:
            if device == CPU:
                raise
            return None
        spent += timing.turns()
    return 1e6 * median(spent)


def times(case: Case, latents: Sequence[int]) -> dict[str, float | None]:
    """Microseconds on the CPU by side of the latent; on the device path sizes do not matter."""
    on_cpu = {str(latent): microseconds(case, latent, CPU) for latent in latents}
    return {**on_cpu, "meta": microseconds(case, LEAST, META)}


# -- one checkout beside another


def measure(tree: Path, what: str, latents: Sequence[int]) -> dict[str, Any]:
    """`counts` or `times` by case, by the benchmark of `tree` in a process of its own."""
    command = [sys.executable, str(tree / "benchmarks/host.py"), "--measure", what, "--latents", *map(str, latents)]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(command, cwd=tree, env=environment, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(trees: Mapping[str, Path], rounds: int, latents: Sequence[int]) -> list[Table]:
    """Counts once, times in rounds that alternate between the trees. trees: by name, the newest last."""
    counts = {name: measure(tree, "counts", latents) for name, tree in trees.items()}
    timed: dict[str, list[dict[str, Any]]] = {name: [] for name in trees}
    for number in range(rounds):
        for name in [*trees][:: 1 if number % 2 else -1]:
            timed[name].append(measure(trees[name], "times", latents))

    def table(title: str, value: Callable[[str, str], Cell], rows: Iterable[str] = CASES, of: str = "at once") -> Table:
        """value: by the name of a tree and of a row."""
        return Table(title, [{of: row, **_beside({name: value(name, row) for name in trees})} for row in rows])

    def kinds(*wanted: str) -> Callable[[str, str], Cell]:
        return lambda name, row: sum(counts[name][row]["kinds"][kind] for kind in wanted)

    def whole(what: str) -> Callable[[str, str], Cell]:
        return lambda name, row: counts[name][row][what]

    def part(what: str) -> Table:
        found = {name: counts[name][LARGEST][what] for name in trees}
        rows = sorted({row for each in found.values() for row in each})
        return table(f"Of those, {what}: {LARGEST}", lambda name, row: found[name].get(row, 0), rows, "where")

    def spent(path: str) -> Callable[[str, str], Cell]:
        def of(name: str, row: str) -> Cell:
            found = [one[row][path] for one in timed[name]]
            return None if None in found else median(found)

        return of

    return [
        table("Kernels", kinds(KERNEL)),
        part("kernels by file"),
        table("Waits: blocking reads and blocking uploads", kinds(READ, UPLOAD)),
        part("waits by place"),
        table("Reads that do not block, as of the turn before", kinds(LATER)),
        table("Uploads that do not block", kinds(STAGED)),
        table("Where the device path stops when nothing may wait", whole("first wait")),
        table("Operations on the host's memory, device path", kinds(HOST)),
        table("Operations, CPU path", whole("CPU path")),
        *(table(f"Microseconds, CPU path, latents of {side} x {side}", spent(str(side))) for side in latents),
        table("Microseconds, device path; none where it cannot run without values", spent("meta")),
    ]


def _beside(found: Mapping[str, Cell]) -> dict[str, Cell]:
    before, *_, after = found.values() if len(found) > 1 else (None, None)
    if isinstance(before, int | float) and isinstance(after, int | float) and before:
        return {**found, "after / before": after / before}
    return dict(found)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.host", description=__doc__)
    parser.add_argument("--beside", type=Path, help="the checkout to compare with")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--latents", type=int, nargs="+", default=LATENTS, help="sides of the latents that are timed")
    parser.add_argument("--out", type=Path, help="folder for the result")
    parser.add_argument("--measure", choices=("counts", "times"), help="only measure this checkout, and print it")
    options = parser.parse_args(arguments)
    if options.measure is not None:
        torch.set_num_threads(1)
        logging.getLogger("fooocus").addHandler(logging.NullHandler())  # it tells of the waits that stop it
        counting = options.measure == "counts"
        found = {name: count(case) if counting else times(case, options.latents) for name, case in CASES.items()}
        print(json.dumps(found))
        return 0
    trees = {"before": options.beside.resolve(), "after": ROOT} if options.beside else {"this checkout": ROOT}
    facts = {**machine(CPU), "rounds": options.rounds, "turns of a round": REPEATS * (TURNS - SKIPPED - 1)}
    command = " ".join(("python -m benchmarks.host", *(["--beside ../before"] if options.beside else [])))
    report = Report("host", command, facts, compare(trees, options.rounds, options.latents))
    report.publish(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
