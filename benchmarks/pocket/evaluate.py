"""Examine the pocket family: `python -m benchmarks.pocket.evaluate FOLDER`.

Measures what each part must be shown to do (models/pocket/README.md), on the family's own files.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.pocket.acceptance import (
    asked_holes,
    checkers,
    concept,
    defaults,
    expansion,
    image_prompts,
    inpaint,
    prompts,
    refiner,
    speed,
    structure,
    upscaler,
    vae,
)
from benchmarks.pocket.acceptance.metric import Metric
from models.pocket import checker
from pipelines.drawing import Drawer
from pipelines.needs import ADAPTERS
from pipelines.preparing import STRUCTURES
from pipelines.settings import DrawingSettings
from pipelines.weights.family import Family, load_family

GATES = range(1, 13)
HEAD = ("| gate | figure | reached | wanted | count | seconds |", "|---|---|---|---|---|---|")
ROWS = 16
FEWER = 4  # times fewer pictures at 1024 x 1024 where a figure hardly differs between them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the family, as models.pocket.write writes it")
    parser.add_argument("--gates", type=int, nargs="+", choices=GATES, default=list(GATES))
    parser.add_argument("--count", type=int, default=100, help="of prompts or pairs")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, help="folder for pocket_gates.md; rows of gates not asked for stay in it")
    asked = parser.parse_args()
    table = _table(asked.out, afresh=set(asked.gates) == set(GATES)) if asked.out else None
    drawer = Drawer.open(DrawingSettings(family=asked.folder, threads=asked.threads, rows=ROWS))
    family = load_family(asked.folder, torch.device("cpu"), torch.float32)
    try:
        for gate in asked.gates:
            begun, metrics = time.monotonic(), []
            for metric in measure(drawer, family, gate, asked.count):
                print(f"gate {gate}: {metric}", flush=True)
                metrics.append(metric)
            if table:
                took = f"{time.monotonic() - begun:.0f}"
                rows = [row(gate, metric, asked.count, took if metric is metrics[-1] else "") for metric in metrics]
                record(table, gate, rows)
    finally:
        drawer.close()


def _table(folder: Path, afresh: bool) -> Path:
    """Where the table is. afresh: without what was measured before."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "pocket_gates.md"
    if afresh:
        table.unlink(missing_ok=True)
    return table


def row(gate: int, metric: Metric, count: int, took: str) -> str:
    """Of the table. count: as asked for. took: seconds, for the whole gate in its last row."""
    sign = "at most" if metric.below else "at least"
    met = "" if metric.met else " (missed)"
    return f"| {gate} | {metric.what} | {metric.reached:.3f}{met} | {sign} {metric.wanted:.3f} | {count} | {took} |"


def record(table: Path, gate: int, rows: Sequence[str]) -> None:
    """Put a gate's rows into the table in the place of those that it had."""
    kept = table.read_text().splitlines()[len(HEAD) :] if table.exists() else []
    others = [line for line in kept if _gate(line) != gate]
    table.write_text("\n".join([*HEAD, *sorted([*others, *rows], key=_gate)]) + "\n")


def _gate(line: str) -> int:
    return int(line.split("|")[1])


def measure(drawer: Drawer, family: Family, gate: int, count: int) -> Iterator[Metric]:
    """The figures of one gate."""
    match gate:
        case 1:
            for side, pictures in ((256, count), (1024, max(1, count // FEWER))):
                yield from vae.gives_back(family, side, pictures)
        case 2:
            yield from prompts.gate(drawer, family, "30 steps", 256, count, prompts.WANTED)
        case 3 | 4:
            least = prompts.looser(prompts.gate(drawer, family, "30 steps", 256, count, prompts.WANTED))
            for mode, side in prompts.OTHERS[gate]:
                yield from prompts.gate(drawer, family, mode, side, count, least)
        case 5:
            for structure_kind in STRUCTURES:
                yield from structure.follows_hints(drawer, family, structure_kind, count)
        case 6:
            yield from structure.hollows(drawer, family, count)
        case 7:
            yield from inpaint.fills(family, count)
            yield from asked_holes.shows(drawer, family, max(1, count // FEWER))
        case 8:
            for reference_kind in ADAPTERS:
                yield from image_prompts.takes_over(drawer, family, reference_kind, count)
        case 9:
            for name in (checker.FIRST, checker.SECOND):
                yield from checkers.objects_to_the_mark(family, name, 2 * count, 10 * count)
            yield from checkers.lets_the_model_draw(drawer, family, 5 * count)
        case 10:
            for side, pictures in ((256, count), (1024, max(1, count // FEWER))):
                yield from upscaler.enlarges(family, side, pictures)
            for side in (256, 512):
                yield from upscaler.draws_over(drawer, family.catalogue, side, max(1, count // FEWER))
            yield from refiner.refines(family, count)
            yield from expansion.expands(family, count)
            yield from concept.draws_its_concept(family, count)
        case 11:
            yield speed.extreme(drawer, family)
        case _:
            yield from defaults.pleases(drawer, family, count, max(1, count // FEWER))


if __name__ == "__main__":
    main()
