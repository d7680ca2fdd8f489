"""Pictures of unlike lengths that arrive over time on a device: the engine, beside one after the other."""

import queue
import random
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from benchmarks.device.clock import seconds
from benchmarks.device.engine import Drawing, Picture, Switch
from benchmarks.device.plain import GUIDANCE, PlainLoop
from benchmarks.device.rig import Rig, add
from benchmarks.device.rows import UNGUIDED, guide
from benchmarks.report import Cell, Table
from benchmarks.sdxl import Models
from pipelines.events import Drawn
from pipelines.unet.guide import Guidance

Times = dict[str, float]

SORTS = ((4, False), (8, False), (30, True))  # steps, and whether guided
SEED = 3
HASTE = 2.0  # pictures arrive so much faster than one after the other can be drawn


@dataclass(frozen=True, eq=False)
class Arrival:
    """A picture and when it arrives, in seconds since the start."""

    at: float
    picture: Picture

    @property
    def guided(self) -> bool:
        return self.picture.guide.negative is not None


class Competitor(Protocol):
    """Draws pictures in whatever order it likes."""

    def submit(self, arrival: Arrival, ended: Callable[[object], None]) -> None:
        """Return at once; call `ended` when the picture is in memory, or with an exception."""


class Engine:
    """A drawing's engine."""

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing

    def submit(self, arrival: Arrival, ended: Callable[[object], None]) -> None:
        def tell(event: object) -> None:
            if isinstance(event, (Drawn, BaseException)):
                ended(event)

        self._drawing.submit(str(arrival.picture.seed), arrival.picture, tell)


class OneByOne:
    """A plain diffusers loop, first come, first served."""

    def __init__(self, models: Models, side: int, device: ThreadPoolExecutor) -> None:
        self._loops = {guided: PlainLoop(models, side, 1, guided=guided) for guided in (False, True)}
        self._device = device

    def submit(self, arrival: Arrival, ended: Callable[[object], None]) -> None:
        self._device.submit(self.draw, arrival).add_done_callback(lambda done: ended(done.exception()))

    def draw(self, arrival: Arrival) -> None:
        self._loops[arrival.guided].draw(arrival.picture.steps)


class ArrivalBench:
    """Measures one round of arrivals at a size; nothing else is on the device."""

    def __init__(self, rig: Rig, jobs: int) -> None:
        self.table = Table("Pictures that arrive over time: the engine beside one after the other")
        self._rig, self._jobs = rig, jobs

    def measure(self, side: int, switches: Sequence[Switch]) -> None:
        models = self._rig.models
        with ThreadPoolExecutor(1) as device:
            by_one = OneByOne(models, side, device)
            rehearsed = _arrivals(models, side, len(SORTS), 0.0)
            for _ in range(2):  # the first time warms up
                alone = [seconds(partial(by_one.draw, each)) for each in rehearsed]
            coming = _arrivals(models, side, self._jobs, statistics.mean(alone) / HASTE)
            base = _play(by_one, coming)
        steps = [(each.picture.steps, each.guided) for each in coming]
        calls, rows = sum(count for count, _ in steps), sum(count * (1 + guided) for count, guided in steps)
        self._add(side, "one after the other", base, base, calls, rows)
        for switch in switches:
            drawing = self._rig.path(switch).drawing()
            try:
                found = _play(Engine(drawing), coming)
                stats = drawing.stats()
            finally:
                drawing.close()
            self._add(side, f"engine, {switch.name}", found, base, stats.unet_calls, stats.unet_rows)

    def _add(self, side: int, name: str, found: Times, base: Times, calls: int, rows: int) -> None:
        row: dict[str, Cell] = {"size": side, "pictures": self._jobs, "competitor": name, **found}
        row |= {"UNet calls": calls, "rows a call": rows / calls}
        row |= {f"{figure} / one after the other": found[figure] / base[figure] for figure in base}
        add(self.table, row)


def _arrivals(models: Models, side: int, jobs: int, gap_s: float) -> list[Arrival]:
    """As many pictures of each sort, in an order and at times that a seed decides. gap_s: the mean one."""
    chance = random.Random(SEED)
    sorts = [SORTS[at % len(SORTS)] for at in range(jobs)]
    chance.shuffle(sorts)
    found, at = [], 0.0
    for seed, (steps, guided) in enumerate(sorts):
        guidance = Guidance(GUIDANCE) if guided else UNGUIDED
        found.append(Arrival(at, Picture(side, steps, seed, guide(models, side, seed, guidance))))
        at += gap_s * chance.expovariate(1.0)
    return found


def _play(competitor: Competitor, coming: Sequence[Arrival]) -> Times:
    """Send every picture at its time and wait for all: seconds in all, and from arrival to picture."""
    told: queue.SimpleQueue[tuple[float, object]] = queue.SimpleQueue()
    start = time.perf_counter()
    for arrival in coming:
        time.sleep(max(0.0, start + arrival.at - time.perf_counter()))
        competitor.submit(arrival, partial(_put, told, arrival.at))
    latencies = []
    for _ in coming:
        latency, event = told.get()
        if isinstance(event, BaseException):
            raise event
        latencies.append(latency - start)
    total = time.perf_counter() - start
    return {"total": total, "mean": statistics.mean(latencies), "p95": float(np.percentile(latencies, 95))}


def _put(told: "queue.SimpleQueue[tuple[float, object]]", arrived: float, event: Any) -> None:
    told.put((time.perf_counter() - arrived, event))
