"""What a submit costs outside Ray, in CPU and commits: this checkout beside another one, in alternating rounds.

`git worktree add --detach ../before 8fae4d3 && python -m benchmarks.submitting --beside ../before`
"""

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.report import Report, Table

ROUNDS = 5
CALLS = 300
AT_ONCE = (1, 16)
INPUT: Mapping[str, Any] = {"prompt": "a red circle on a blue background", "seed": 7, "image_size": "square"}
PATH = "/queue/fal-ai/fast-fooocus-sdxl"


async def submit(calls: int, at_once: int) -> dict[str, float]:
    """CPU and wall milliseconds of one submit through the gateway's app, with its ledger on disk."""
    import httpx2

    from gateway.app import Parts, create_app
    from gateway.files.backends import LocalFiles
    from gateway.ledger.opening import open_ledger
    from gateway.settings import GatewaySettings

    with tempfile.TemporaryDirectory() as folder:
        settings = GatewaySettings(data_dir=Path(folder), allowed_hosts=("bench",))
        ledger = await open_ledger(settings)
        nobody: Any = None  # draws: a submit only adds to the ledger
        app = create_app(Parts(settings, ledger, LocalFiles(settings.data_dir), nobody))
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://bench") as client:

            async def some(count: int) -> None:
                for _ in range(count):
                    (await client.post(PATH, json=INPUT)).raise_for_status()

            await some(20)
            cpu, wall = time.process_time(), time.perf_counter()
            await asyncio.gather(*(some(calls // at_once) for _ in range(at_once)))
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        await ledger.close()
    made = calls // at_once * at_once
    return {"cpu_ms": 1000 * cpu / made, "wall_ms": 1000 * wall / made}


def measure(tree: Path, at_once: int) -> dict[str, float]:
    """`submit` in a process of its own, with the code of `tree`."""
    command = [sys.executable, str(Path(__file__).resolve()), "--at-once", str(at_once)]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(command, cwd=tree, env=environment, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(before: Path, after: Path, rounds: int) -> Table:
    """Medians over rounds that alternate between the two."""
    table = Table("Milliseconds of a submit, medians; gain is before over after")
    for at_once in AT_ONCE:
        found: dict[str, list[dict[str, float]]] = {"before": [], "after": []}
        for _ in range(rounds):
            for name, tree in (("before", before), ("after", after)):
                found[name].append(measure(tree, at_once))
        for what in ("cpu_ms", "wall_ms"):
            first, second = (median(one[what] for one in found[name]) for name in ("before", "after"))
            ratios = [one[what] / other[what] for one, other in zip(found["before"], found["after"], strict=True)]
            table.rows.append(
                {
                    "callers at once": at_once,
                    "of": what.removesuffix("_ms").replace("cpu", "CPU"),
                    "before": first,
                    "after": second,
                    "gain": median(ratios),
                    "least gain of a round": min(ratios),
                }
            )
    return table


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.submitting", description=__doc__)
    parser.add_argument("--beside", type=Path, help="the checkout to compare with")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, help="folder for the result")
    parser.add_argument("--at-once", type=int, help="only measure this checkout, with so many callers")
    options = parser.parse_args(arguments)
    if options.at_once is not None:
        print(json.dumps(asyncio.run(submit(CALLS, options.at_once))))
        return 0
    if options.beside is None:
        parser.error("--beside names the checkout to compare with")
    table = compare(options.beside.resolve(), Path(__file__).resolve().parents[1], options.rounds)
    command = "python -m benchmarks.submitting --beside ../before"
    facts = {"python": platform.python_version(), "rounds": options.rounds, "submits of a round": CALLS}
    report = Report("submitting", command, facts, (table,))
    report.publish(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
