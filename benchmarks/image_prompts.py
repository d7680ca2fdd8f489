"""What image prompts cost, in CPU seconds on the pocket family: the requests that have them, and their neighbours.

A request in Extreme Speed is drawn without and with image prompts, in turn. Then eight of each share calls, and four of
each do: where the plain ones of a mixed call pay nothing, it costs the mean of both others.

python -m benchmarks.image_prompts --out benchmarks/results
"""

import argparse
import queue
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.report import Report, Table, machine
from models.pocket.write import write_family
from pipelines.device import PlainDevice
from pipelines.drawing import Drawer, stages
from pipelines.engine.engine import Engine
from pipelines.events import Drawn, Step
from pipelines.performance import MODES
from pipelines.preparing import find_loras, prepare
from pipelines.spec import Guidance, Reference, Size, Spec
from pipelines.unet.row_caps import RowCaps
from pipelines.unet.stage import EvaluationStage
from pipelines.weights.family import Family, load_family
from pipelines.weights.variants import VariantStore

FAMILY = Path(".cache/pocket")
ROUNDS, SIZE, TOGETHER = 7, 256, 8
MODE = MODES["Extreme Speed"]


class Requests:
    """Draws requests of one size, each with some number of image prompts."""

    def __init__(self, family: Family, size: int) -> None:
        self._family, self._size = family, Size(width=size, height=size)
        device = PlainDevice(family.device)
        engine = Engine(stages(family, device, RowCaps(16)), counted=EvaluationStage.name)
        self._drawer = Drawer(engine, family, VariantStore(family, 2**30), device)
        self._seeds = iter(range(2**31))

    def cost(self, prompts: Sequence[int]) -> float:
        """CPU seconds of requests that are handed over at once. prompts: how many image prompts each has."""
        jobs = [self._job(number, next(self._seeds)) for number in prompts]
        events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        began = time.process_time()
        for at, (spec, inputs) in enumerate(jobs):
            self._drawer.submit(str(at), spec, inputs, events.put)
        for _ in jobs:
            while isinstance(event := events.get(), Step):
                pass
            if not isinstance(event, Drawn):
                raise event
        return time.process_time() - began

    def _job(self, number: int, seed: int) -> tuple[Spec, Any]:
        """With pictures that no other request has: towers see each of them."""
        if MODE.lora is None:
            raise ValueError("the mode has a LoRA of its own")
        chance = np.random.default_rng(seed)
        pictures = [chance.integers(0, 256, (256, 256, 3), dtype=np.uint8) for _ in range(number)]
        spec = Spec(
            prompt="a red circle on a blue background",
            size=self._size,
            seeds=(seed,),
            steps=MODE.steps,
            sampler=MODE.sampler,
            schedule=MODE.schedule,
            guidance=Guidance(scale=1.0),
            loras=(MODE.lora,),
            pictures=tuple(Reference(kind="ImagePrompt", source="", stop_at=1.0) for _ in pictures),
            check_safety=False,
        )
        return spec, prepare(spec, pictures, find_loras(spec, self._family.catalogue))

    def close(self) -> None:
        self._drawer.close()


def measure(requests: Requests, rounds: int) -> list[Table]:
    """Medians of rounds in which all are drawn in turn, after one that counts for nothing."""
    alone = {number: [requests.cost([number])] for number in (0, 1, 4)}
    calls = {"plain": [0] * TOGETHER, "with one": [1] * TOGETHER, "mixed": [0, 1] * (TOGETHER // 2)}
    together = {name: [requests.cost(prompts)] for name, prompts in calls.items()}
    for _ in range(rounds):
        for number, found in alone.items():
            found.append(requests.cost([number]))
        for name, found in together.items():
            found.append(requests.cost(calls[name]))
    plain = alone[0][1:]
    own = Table("A request with image prompts, times the same without")
    for number in (1, 4):
        ratios = [it / base for it, base in zip(alone[number][1:], plain, strict=True)]
        own.rows.append({"image prompts": number, "median": median(ratios), "worst round": max(ratios)})
    shared = [
        mixed / ((without + having) / 2)
        for without, having, mixed in zip(*(together[name][1:] for name in calls), strict=True)
    ]
    neighbours = Table(f"{TOGETHER} requests of which half have one, times the mean of {TOGETHER} of either kind")
    neighbours.rows.append({"median": median(shared), "worst round": max(shared)})
    return [own, neighbours]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", type=Path, default=FAMILY)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--size", type=int, default=SIZE)
    given = parser.parse_args(arguments)
    write_family(given.family)
    requests = Requests(load_family(given.family, torch.device("cpu"), torch.float32), given.size)
    try:
        tables = measure(requests, given.rounds)
    finally:
        requests.close()
    command = " ".join(["python -m benchmarks.image_prompts", *(sys.argv[1:] if arguments is None else arguments)])
    facts = {
        **machine(torch.device("cpu")),
        "mode": "Extreme Speed",
        "pixels a side": given.size,
        "rounds": given.rounds,
    }
    Report("image_prompts", command, facts, tables).publish(given.out)


if __name__ == "__main__":
    main()
