"""Measures one cluster: `python -m benchmarks.serving.measuring`, in a process of its own, for Ray reads its
environment once.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks.serving.calls import Call, Calls
from benchmarks.serving.cluster import BARE, CHAIN, SERVICE, Cluster, cluster

ALONE, TOGETHER, AT_ONCE = 20, 64, 16
WARM_UP = 5
SETTLE_S, IDLE_S = 5.0, 20.0
PAUSE_S = 0.3  # between two kinds, so that what one leaves to be done is not the other's
KINDS: Mapping[str, str] = MappingProxyType({"bare": BARE, "chain": CHAIN, "sync": SERVICE, "queue": SERVICE})
"""Of requests, with the application that answers them, in the order of a round."""


@dataclass(frozen=True)
class Spell:
    """Requests of one kind, one after the other or at once. seconds: of each. cpu_s: by whom, while they ran."""

    seconds: tuple[float, ...]
    wall_s: float
    cpu_s: dict[str, float]
    statements: int


def measure(rounds: int, idle_s: float) -> dict[str, Any]:
    """Spells of every kind, in rounds that alternate between them, and what all take when nobody asks."""
    with cluster() as there:
        found = asyncio.run(_rounds(there, rounds))
        time.sleep(SETTLE_S)
        return {"rounds": found, "idle": _idle(there, idle_s), "replicas": dict(there.usage.replicas())}


async def _rounds(there: Cluster, rounds: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async with Calls(there.address) as calls:
        named = {"bare": calls.bare, "chain": calls.chain, "sync": calls.sync, "queue": calls.queue}
        for call in named.values():
            await _spell(there, call, 2 * AT_ONCE, AT_ONCE)
            await _spell(there, call, WARM_UP, 1)
        for number in range(rounds):
            spells: dict[str, Any] = {}
            for kind in [*KINDS] if number % 2 == 0 else [*KINDS][::-1]:
                spells[kind] = {
                    "alone": asdict(await _spell(there, named[kind], ALONE, 1)),
                    "together": asdict(await _spell(there, named[kind], TOGETHER, AT_ONCE)),
                }
            found.append(spells)
    return found


def _idle(there: Cluster, idle_s: float) -> dict[str, Any]:
    begun, cpu, executed = time.perf_counter(), there.usage.seconds(), there.statements()
    time.sleep(idle_s)
    wall_s, after = time.perf_counter() - begun, there.usage.seconds()
    return {
        "cpu_share": {whose: (after[whose] - before) / wall_s for whose, before in cpu.items()},
        "statements_per_s": (there.statements() - executed) / wall_s,
    }


async def _spell(there: Cluster, call: Call, count: int, at_once: int) -> Spell:
    await asyncio.sleep(PAUSE_S)
    seconds: list[float] = []
    left = iter(range(count))

    async def caller() -> None:
        for _ in left:
            begun = time.perf_counter()
            await call()
            seconds.append(time.perf_counter() - begun)

    cpu, executed, begun = there.usage.seconds(), there.statements(), time.perf_counter()
    async with asyncio.TaskGroup() as callers:
        for _ in range(at_once):
            callers.create_task(caller())
    wall_s, after = time.perf_counter() - begun, there.usage.seconds()
    spent = {whose: after[whose] - before for whose, before in cpu.items()}
    return Spell(tuple(seconds), wall_s, spent, there.statements() - executed)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.measuring", description=__doc__)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--idle", type=float, default=IDLE_S)
    parser.add_argument("--out", type=Path, required=True, help="file for the result, which Ray's words are not")
    options = parser.parse_args(arguments)
    found = measure(options.rounds, options.idle)
    options.out.write_text(json.dumps(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
