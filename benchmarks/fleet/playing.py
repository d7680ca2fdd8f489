"""One trace, played with one policy."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np

from benchmarks.fleet.costs import Costs, read_curve
from benchmarks.fleet.scaling import ByRequests, ByWork, Scales, foreseen, with_bounds
from benchmarks.fleet.service import Outcome, Sample, Service, saturated_rate
from benchmarks.fleet.trace import Shape, Trace, draw
from deployments.autoscaling import Rules

POLICIES = ("work", "serve", "clairvoyant")
CASES: Mapping[str, str] = MappingProxyType(
    {
        "wave": "The daily wave",
        "burst": "The daily wave with a burst of 10 times as many",
        "slow": "The daily wave, on devices that take 1.8 times as long",
    }
)
SLOW = 1.8
SHARE = 0.95  # of a replica's rate when it has always enough to do, by which the clairvoyant plans


@dataclass(frozen=True)
class Task:
    """One trace and one policy."""

    case: str
    seed: int
    policy: str
    requests: int
    most: int
    start_s: float
    results: Path

    def costs(self) -> Costs:
        curve = read_curve(self.results)
        return Costs(curve.times(SLOW) if self.case == "slow" else curve, self.start_s)

    def shape(self) -> Shape:
        return Shape(self.requests, burst=10.0 if self.case == "burst" else 1.0)


@dataclass(frozen=True)
class Played:
    """What came of a task; seconds: of CPU time that it took."""

    task: Task
    figures: dict[str, float]
    samples: Sequence[Sample] = field(repr=False)


def play(task: Task) -> Played:
    began = time.process_time()
    costs, trace = task.costs(), draw(task.shape(), task.seed)
    rate = saturated_rate(trace, costs)
    first = trace.row_steps[trace.at < costs.start_s].sum() / costs.start_s
    replicas = min(task.most, int(first / rate) + 1)  # as the wave's trough needs, for a day has no beginning
    scaling = _scaling(task, trace, costs, rate)
    outcome = Service(trace, scaling, costs, replicas).run()
    return Played(task, _figures(outcome, rate, time.process_time() - began), outcome.samples)


def _scaling(task: Task, trace: Trace, costs: Costs, rate: float) -> Scales:
    match task.policy:
        case "work":
            return ByWork(with_bounds(Rules(), 1, task.most, costs))
        case "serve":
            return ByRequests(most=task.most)
        case _:
            return foreseen(trace, costs, task.most, rate * SHARE)


def _figures(outcome: Outcome, rate: float, took_s: float) -> dict[str, float]:
    p50, p95, p99 = (float(each) for each in np.percentile(outcome.waits, (50, 95, 99)))
    return {
        "wait p50 s": p50,
        "wait p95 s": p95,
        "wait p99 s": p99,
        "answer p95 s": float(np.percentile(outcome.ends, 95)),
        "utilisation": outcome.utilisation,
        "as full replicas": outcome.row_steps / (outcome.paid_s * rate),
        "as full calls": outcome.worth,
        "replica hours": outcome.paid_s / 3600,
        "most replicas": float(outcome.most),
        "LoRAs not at hand": outcome.misses / len(outcome.waits),
        "simulated in CPU s": took_s,
    }
