"""What the service adds to Ray's own chain, and what its queue costs by its length.

The chain is an ingress with three deployments behind it that does nothing but answer (`benchmarks.serving.chain`), on
the same cluster in the same minutes; neither draws. A queue request is a submit, its status stream until COMPLETED and
its result.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from types import MappingProxyType
from typing import Any

import torch

from benchmarks.ledger_depth import DEPTHS, Costs, measure_postgresql, measure_sqlite
from benchmarks.report import Cell, Report, Table, machine
from benchmarks.serving.cluster import BARE, CHAIN, FAMILY, SERVICE
from benchmarks.serving.measuring import AT_ONCE, IDLE_S, KINDS
from benchmarks.serving.usage import PROXY
from models.pocket.write import write_family

APPLICATIONS = (BARE, CHAIN, SERVICE)
MODES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {"default": {}, "throughput": {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}}
)
THROUGHPUT = "throughput"
ROUNDS = 5
LONGER = 1.2  # times the cost at the least depth


@dataclass(frozen=True)
class Want:
    """A figure and its limit. at_least: or at most."""

    what: str
    found: float
    limit: float
    at_least: bool = False

    def row(self) -> dict[str, Cell]:
        met = self.found >= self.limit if self.at_least else self.found <= self.limit
        return {
            "what": self.what,
            "wanted": f"{'at least' if self.at_least else 'at most'} {self.limit:g}",
            "found": self.found,
            "met": "yes" if met else "no",
        }


class Mode:
    """What `benchmarks.serving.measuring` found in one mode of Serve."""

    def __init__(self, name: str, found: Mapping[str, Any]) -> None:
        self._name, self._rounds, self._idle = name, found["rounds"], found["idle"]
        self._replicas: Mapping[str, int] = found["replicas"]

    def requests(self) -> Table:
        table = Table(f"Requests in Serve's {self._name} mode, medians of the rounds; CPU with the proxy's")
        for kind in KINDS:
            p50, p90 = (self._median(kind, place) for place in (4, 8))
            table.rows.append(
                {
                    "request": kind,
                    "p50 ms": p50,
                    "p90 ms": p90,
                    "p50 / chain": self.slower(kind),
                    "CPU ms": median(_cpu_ms(one, kind, "alone") for one in self._rounds),
                    f"CPU ms of {AT_ONCE} at once": median(_cpu_ms(one, kind, "together") for one in self._rounds),
                    f"a second, {AT_ONCE} at once": median(_rate(one, kind) for one in self._rounds),
                    "a second / chain": self.rate(kind),
                    "statements": median(_statements(one, kind) for one in self._rounds),
                }
            )
        return table

    def processes(self) -> Table:
        """Where the CPU of a request goes, what each process takes when idle included."""
        table = Table(f"CPU ms of a request by process in Serve's {self._name} mode, medians of the rounds")
        of_chain, of_service = (self._deployments(name) for name in ("chain", "service"))
        for deployment in sorted({*of_chain, *of_service}):
            row: dict[str, Cell] = {"process": deployment}
            for kind in ("chain", "sync", "queue"):
                whose = f"{KINDS[kind]}/{deployment}"
                known = deployment in (of_chain if kind == "chain" else of_service)
                row[kind] = self._of_process(kind, whose) if known else None
            table.rows.append(row)
        table.rows.append(
            {"process": PROXY, **{kind: self._of_process(kind, PROXY) for kind in KINDS if kind != "bare"}}
        )
        return table

    def _deployments(self, application: str) -> set[str]:
        shares = self._idle["cpu_share"]
        return {name.partition("/")[2] for name in shares if name.startswith(f"{application}/")}

    def _of_process(self, kind: str, whose: str) -> float:
        alone = (one[kind]["alone"] for one in self._rounds)
        return float(median(1000 * spell["cpu_s"][whose] / len(spell["seconds"]) for spell in alone))

    def idle(self) -> Table:
        table = Table(f"Idle in Serve's {self._name} mode")
        for name in APPLICATIONS:
            share, count = 100 * self._idle["cpu_share"][name], self._replicas[name]
            table.rows.append(
                {
                    "application": name,
                    "replicas": count,
                    "CPU %": share,
                    "CPU % of a replica": share / count,
                    "CPU / chain": self.idles(name),
                    "statements a second": self._idle["statements_per_s"] if name == "service" else None,
                }
            )
        return table

    def wants(self) -> Iterator[Want]:
        mode = self._name
        yield Want(f"{mode}: p50 of a queue request / chain", self.slower("queue"), 2.0)
        yield Want(f"{mode}: p50 of a sync request / chain", self.slower("sync"), 1.4)
        yield Want(f"{mode}: sync requests a second / chain", self.rate("sync"), 0.75, at_least=True)
        yield Want(f"{mode}: queue requests a second / chain", self.rate("queue"), 0.55, at_least=True)
        yield Want(f"{mode}: CPU of the idle service / chain", self.idles("service"), 1.3)
        yield Want(f"{mode}: statements a second of the idle service", self._idle["statements_per_s"], 2.0)

    def slower(self, kind: str) -> float:
        """Its latency over the chain's of the same round."""
        return median(_cut(one, kind, 4) / _cut(one, "chain", 4) for one in self._rounds)

    def rate(self, kind: str) -> float:
        """Its requests a second over the chain's of the same round."""
        return median(_rate(one, kind) / _rate(one, "chain") for one in self._rounds)

    def idles(self, application: str) -> float:
        """Its CPU over the chain's in the same seconds."""
        shares = self._idle["cpu_share"]
        return float(shares[application] / shares["chain"])

    def _median(self, kind: str, place: int) -> float:
        return 1000 * median(_cut(one, kind, place) for one in self._rounds)


def _cpu_ms(one: Mapping[str, Any], kind: str, load: str) -> float:
    """Of a request, in its application and the proxy."""
    spell = one[kind][load]
    spent = spell["cpu_s"][KINDS[kind]] + spell["cpu_s"][PROXY]
    return float(1000 * spent / len(spell["seconds"]))


def _cut(one: Mapping[str, Any], kind: str, place: int) -> float:
    """A decile of the latencies one at a time, from 0."""
    return float(quantiles(one[kind]["alone"]["seconds"], n=10)[place])


def _rate(one: Mapping[str, Any], kind: str) -> float:
    spell = one[kind]["together"]
    return float(len(spell["seconds"]) / spell["wall_s"])


def _statements(one: Mapping[str, Any], kind: str) -> float:
    spell = one[kind]["alone"]
    return float(spell["statements"] / len(spell["seconds"]))


def depth_table(unit: str, costs: Costs) -> Table:
    """The costs of each call by depth."""
    table = Table(f"Cost by the length of the queue, {unit}")
    for call, found in costs.items():
        by_depth: dict[str, Cell] = {f"{depth} wait": each for depth, each in zip(DEPTHS, found, strict=True)}
        table.rows.append({"call": call, **by_depth, "ratio": found[-1] / found[0]})
    return table


def depth_wants(unit: str, costs: Costs) -> Iterator[Want]:
    for call, found in costs.items():
        yield Want(f"{call}, {unit}: at {DEPTHS[-1]} / at {DEPTHS[0]}", found[-1] / found[0], LONGER)


def measure(mode: str, rounds: int) -> Mode:
    """One mode, in a process of its own: Ray reads its environment when it is imported."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        words = ["--rounds", str(rounds), "--idle", str(IDLE_S), "--out", str(out)]
        command = [sys.executable, "-m", "benchmarks.serving.measuring", *words]
        # Ray is talkative; standard output is the report's
        subprocess.run(command, env={**os.environ, **MODES[mode]}, stdout=sys.stderr, check=True)  # noqa: S603
        return Mode(mode, json.loads(out.read_text(encoding="utf-8")))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--no-throughput", action="store_true", help="measure Serve's default mode alone")
    parser.add_argument("--no-depth", action="store_true", help="leave out the cost by the length of the queue")
    parser.add_argument("--postgresql", metavar="ADDRESS", help="of an empty database, which is filled")
    parser.add_argument("--out", type=Path, help="folder for the result")
    options = parser.parse_args(arguments)
    write_family(FAMILY)
    tables: list[Table] = []
    wants: list[Want] = []
    depths = {} if options.no_depth else {"VM steps on SQLite": measure_sqlite()}
    if options.postgresql is not None and not options.no_depth:
        depths["rows touched on PostgreSQL"] = measure_postgresql(options.postgresql)
    for name in MODES:
        if name == THROUGHPUT and options.no_throughput:
            continue
        mode = measure(name, options.rounds)
        tables += [mode.requests(), mode.processes(), mode.idle()]
        wants += mode.wants()
    for unit, costs in depths.items():
        tables.append(depth_table(unit, costs))
        wants += depth_wants(unit, costs)
    tables.append(Table("What is wanted", [want.row() for want in wants]))
    shown = [word if word != options.postgresql else "postgresql://..." for word in arguments]  # it holds a password
    command = shlex.join(["python", "-m", "benchmarks.overhead", *shown])
    facts: dict[str, Cell] = {
        **machine(torch.device("cpu")),
        "cores": os.cpu_count(),
        "rounds": options.rounds,
        "idle seconds": IDLE_S,
    }
    Report("overhead", command, facts, tables).publish(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
