"""A soak: for half an hour clients draw, cancel, fail, leave, upload and change LoRAs at a steady rate, and every
process of the service must hold at the end what it held at minute 5.

The service is the one of `make serve` with the pocket family; only that its files and requests are soon over.
Clients are fal's own.
"""

import argparse
import asyncio
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
import torch

from benchmarks.report import Cell, Report, Table, machine
from benchmarks.soak import plot
from benchmarks.soak.clients import KINDS, Clients, Kind, Told, clients, in_rounds
from benchmarks.soak.history import OPEN, History
from benchmarks.soak.pictures import Server, serving
from benchmarks.soak.served import served
from benchmarks.soak.verdict import OF_RAY_ALONE, Verdict, Windows
from benchmarks.soak.watching import Watch
from tests.clients.guard import Guard

NAME = "soak"
MOST_OPEN = 12  # asks, beyond which the next one waits


@dataclass(frozen=True)
class Options:
    """minutes: of traffic. warm: the minute that the end is compared to. rate: asks a second. every_s: between two
    samples."""

    minutes: float
    warm: float
    rate: float
    every_s: float
    seed: int
    out: Path
    command: str

    @property
    def windows(self) -> Windows:
        width_s = min(120.0, 12 * self.minutes)
        return Windows(60 * self.warm, width_s, 60 * self.minutes)


def parse(arguments: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--warm", type=float, default=5.0, help="the minute that the end is compared to")
    parser.add_argument("--rate", type=float, default=0.35, help="asks a second")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two samples")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args(arguments)
    if not 0 < given.warm < given.minutes:
        parser.error("--warm: the warm minute comes after the start and before the end")
    command = shlex.join(["python", "-m", "benchmarks.soak", *arguments])
    return Options(given.minutes, given.warm, given.rate, given.every, given.seed, given.out, command)


async def drive(there: Clients, options: Options) -> list[Told]:
    """Asks at the rate until the time is over, and what came of each once the last one has ended."""
    loop, room = asyncio.get_running_loop(), asyncio.Semaphore(MOST_OPEN)
    told: list[Told] = []

    async def ask(kind: Kind, number: int) -> None:
        try:
            told.append(await there.ask(kind, number))
        finally:
            room.release()

    begun = loop.time()
    async with asyncio.TaskGroup() as asks:
        for number, kind in enumerate(in_rounds(options.seed)):
            await room.acquire()
            await asyncio.sleep(begun + number / options.rate - loop.time())
            if loop.time() - begun > 60 * options.minutes:
                break
            asks.create_task(ask(kind, number))
    return told


def asked(told: Sequence[Told]) -> Table:
    """By kind: how often, how it ended, and whether all of them as they should."""
    table = Table("What was asked, and how it ended for its client")
    for kind in KINDS:
        own = [one for one in told if one.kind is kind]
        if own:
            ends = Counter(one.end for one in own).most_common()
            table.rows.append(
                {
                    "kind": kind.name,
                    "asked": len(own),
                    "ended": ", ".join(f"{end} {number}" for end, number in ends),
                    "as they should": "yes" if all(one.is_right for one in own) else "no",
                    "seconds, median": median(one.seconds for one in own),
                }
            )
    return table


def publish(options: Options, verdict: Verdict, watch: Watch, facts: dict[str, Cell], tables: list[Table]) -> None:
    """The report and the picture."""
    held = Table("What each process holds, around the warm minute and in the last ones", [*verdict.rows()])
    folder = Table("The ledger and the files", [*verdict.folder_rows()])
    minutes = Table("Own memory in MiB by minute", [*by_minute(watch)])
    Report(NAME, options.command, facts, [held, folder, *tables, minutes]).publish(options.out)
    roles = {sample.pid: sample.role for sample in watch.samples}
    strips: dict[str, list[tuple[float, float]]] = {}
    for sample in watch.samples:
        strips.setdefault(roles[sample.pid], []).append((sample.at, sample.own))
    strips = {name: strips[name] for name in sorted(strips) if name not in OF_RAY_ALONE}
    strips["the ledger's WAL"] = [(one.at, one.wal) for one in watch.folders]
    title = f"Own memory of each process over {options.minutes:g} minutes of {options.rate:g} asks a second"
    drawn = plot.picture(strips, options.windows, title)
    (options.out / f"{NAME}.svg").write_text(drawn, encoding="utf-8")


def by_minute(watch: Watch) -> Iterator[dict[str, Cell]]:
    """The median own memory of each process in every third minute."""
    roles = {sample.pid: sample.role for sample in watch.samples}
    minutes: dict[str, dict[int, list[float]]] = {}
    for sample in watch.samples:
        name = roles[sample.pid]
        if name not in OF_RAY_ALONE:
            minutes.setdefault(name, {}).setdefault(int(sample.at // 60), []).append(sample.own)
    for name in sorted(minutes):
        shown: dict[str, Cell] = {
            f"{each}": median(minutes[name][each]) for each in sorted(minutes[name]) if each % 3 == 0
        }
        yield {"process": name, **shown}


async def soak(address: str, server: Server, options: Options, history: History) -> list[Told]:
    following = asyncio.create_task(history.follow())
    try:
        async with clients(address, server) as there:
            return await drive(there, options)
    finally:
        following.cancel()


def run(options: Options) -> list[str]:
    """Soak, and write the report; what is wrong with it, each as a sentence."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serving() as server,
        Guard().watching(),
        served(Path(folder)) as there,
    ):
        history = History(there.address)
        watch = Watch(there.process, there.data, options.every_s, tells=True)
        begun, spent = time.monotonic(), _cpu_s(there.process)
        with watch.watching():
            told = asyncio.run(soak(there.address, server, options, history))
        cores = (_cpu_s(there.process) - spent) / (time.monotonic() - begun)
        outcomes = history.settle()
    missing = history.missing(name for one in told for name in one.request_ids)
    verdict = Verdict(watch.samples, watch.folders, options.windows)
    wrong = [one for one in told if not one.is_right]
    facts: dict[str, Cell] = {
        **machine(torch.device("cpu")),
        "minutes": options.minutes,
        "compared": f"{options.windows.width_s:.0f} s around minute {options.warm:g} and at the end: "
        "of memory the lowest decile, of all else the median",
        "asked": len(told),
        "asks a second": len(told) / (60 * options.minutes),
        "cores that the service took": cores,
        "requests in the history": sum(outcomes.values()),
        "of these": ", ".join(f"{name} {number}" for name, number in outcomes.most_common()),
        "accepted and lost": len(missing),
        "ended otherwise than they should": len(wrong),
        "webhooks": f"{sum(server.heard.values())} of {len(server.heard)} requests",
        "samples": f"{len(watch.folders)} of each process",
    }
    failures = [
        *verdict.failures,
        *(f"{one.kind.name}: {one.end}" for one in wrong),
        *(f"{name} was accepted and has no outcome" for name in missing),
        *([f"{outcomes[OPEN]} requests are open at the end"] if outcomes[OPEN] else []),
    ]
    facts["verdict"] = (
        "all flat, none lost" if not failures else f"{len(failures)} failures: " + "; ".join(failures[:20])
    )
    publish(options, verdict, watch, facts, [asked(told)])
    return failures


def _cpu_s(first: psutil.Process) -> float:
    """Of the processes that live now."""
    found = 0.0
    for process in (first, *first.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            found += sum(process.cpu_times()[:2])
    return found


def main(arguments: Sequence[str]) -> int:
    failures = run(parse(arguments))
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
