"""Rounds in which competitors draw the same arrivals one after the other, and how they compare."""

import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from benchmarks.competitors import Competitor
from benchmarks.plain import Call, Work
from benchmarks.report import Cell

T = TypeVar("T")

FIGURES = ("total", "mean", "p95", "UNet calls")


@dataclass(frozen=True, eq=False)
class Arrival:
    """A job and when it arrives, in seconds since the start."""

    at: float
    work: Work


@dataclass(frozen=True, eq=False)
class Round:
    """What one competitor made of the arrivals.

    total: CPU seconds from the start to the last answer. latencies: of each job, CPU seconds of the whole process from
    its arrival to its answer. wall_s: the total by the clock. calls: of the UNet, since the start.
    """

    total: float
    latencies: Sequence[float]
    wall_s: float
    calls: Sequence[Call]

    @property
    def figures(self) -> dict[str, float]:
        return {
            "total": self.total,
            "mean": statistics.mean(self.latencies),
            "p95": float(np.percentile(self.latencies, 95)),
            "UNet calls": len(self.calls),
        }


def play(competitor: Competitor, coming: Sequence[Arrival]) -> Round:
    """Send every job at its time and wait for all."""
    before = len(competitor.calls)
    start, spent = time.perf_counter(), time.process_time()

    def send(arrival: Arrival) -> float:
        time.sleep(max(0.0, start + arrival.at - time.perf_counter()))
        arrived = time.process_time()
        competitor.draw(arrival.work)
        return time.process_time() - arrived

    with ThreadPoolExecutor(len(coming)) as clients:
        latencies = list(clients.map(send, coming))
    total, wall_s = time.process_time() - spent, time.perf_counter() - start
    calls = [Call(call.began - start, call.ended - start, call.rows, call.useful) for call in competitor.calls[before:]]
    return Round(total, latencies, wall_s, calls)


def in_turn(competitors: Sequence[T], number: int) -> list[T]:
    """All of them, in the order of a round: nobody is always first."""
    first = number % len(competitors)
    return [*competitors[first:], *competitors[:first]]


def medians(played: Sequence[Round]) -> dict[str, Cell]:
    """The figures of one competitor."""
    return {figure: statistics.median(each.figures[figure] for each in played) for figure in FIGURES}


def compared(played: Mapping[str, Sequence[Round]]) -> list[dict[str, Cell]]:
    """A row for each competitor but the first: the first one's figures by its own, round by round."""
    (_, ours), *others = played.items()
    rows: list[dict[str, Cell]] = []
    for name, theirs in others:
        row: dict[str, Cell] = {"other": name}
        for figure in FIGURES:
            each = [one.figures[figure] / other.figures[figure] for one, other in zip(ours, theirs, strict=True)]
            row |= {figure: statistics.median(each), f"{figure}, worst round": max(each)}
        rows.append(row)
    return rows
