"""The simulation beside a real run: what it predicts for the requests of that run, with that run's replicas.

A run is a file of JSON lines. Its first line says what the service was:

    {"ms_by_rows": {"1": 50, "8": 120}, "starts_s": [4.1, 4.3], "rules": {"keep_s": 5}, "least": 0, "most": 6,
     "replicas": 0, "prepare_s": 0.05, "look_ahead": 4}

`ms_by_rows` is the cost of a call of the engine, which may sleep for it, by its rows; `starts_s` how long each replica
took to start, in the order of their starts; `rules` those of `deployments.autoscaling.Rules` that were set; `replicas`
how many there were at the beginning. Every other line is a request, its instants in seconds since any beginning:

    {"at": 0.0, "began_at": 4.4, "steps": 8, "rows": 1, "row_steps": 8, "base": "", "loras": "", "key": "",
     "priority": 0, "size": 1024}

`began_at` is the instant of its first step; what stands behind `row_steps` may be left out.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fleet.costs import Costs, Curve
from benchmarks.fleet.scaling import ByWork, with_bounds
from benchmarks.fleet.service import Outcome, Service
from benchmarks.fleet.trace import Kind, Trace
from deployments.autoscaling import Rules
from pipelines.weights.at_hand import Weights

WITHIN = 0.2


@dataclass(frozen=True)
class Comparison:
    """Seconds that requests waited for their first step, in a real run and in its simulation."""

    real: Sequence[float]
    predicted: Sequence[float]

    def of(self, percent: float) -> tuple[float, float]:
        """The percentile of both."""
        return float(np.percentile(self.real, percent)), float(np.percentile(self.predicted, percent))

    @property
    def means(self) -> tuple[float, float]:
        return float(np.mean(self.real)), float(np.mean(self.predicted))

    def agrees(self, within: float = WITHIN) -> bool:
        """Whether the mean and the 95th percentile are those of the real run, but for this share of them."""
        return all(abs(predicted - real) <= within * real for real, predicted in (self.means, self.of(95)))

    def told(self) -> str:
        pairs = {"mean": self.means, "p50": self.of(50), "p95": self.of(95)}
        return "; ".join(f"{name}: real {real:.2f} s, predicted {told:.2f} s" for name, (real, told) in pairs.items())


def compare(lines: Sequence[str]) -> Comparison:
    """What the simulation says of a run. Raises ValueError for a run that is none."""
    said, requests = read(lines)
    outcome = replay(said, requests)
    return Comparison([each["began_at"] - each["at"] for each in requests], outcome.waits.tolist())


def read(lines: Sequence[str]) -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]:
    """What the service was, and its requests in the order of their arrival."""
    said, *requests = [json.loads(line) for line in lines if line.strip()] or [{}]
    if "ms_by_rows" not in said or not requests:
        raise ValueError("The first line of a run says what the service was (ms_by_rows), the others its requests.")
    return said, sorted(requests, key=lambda each: float(each["at"]))


def replay(said: Mapping[str, Any], requests: Sequence[Mapping[str, Any]]) -> Outcome:
    """The requests of a run in a simulated service of the same policy, replicas and engine."""
    starts = [float(each) for each in said.get("starts_s", ())]
    costs = Costs(
        Curve(sorted((float(rows), float(ms)) for rows, ms in said["ms_by_rows"].items()), "a real run"),
        start_s=float(np.median(starts)) if starts else 0.0,
        starts=starts,
        prepare_s=float(said.get("prepare_s", 0.0)),
        fetch_s=float(said.get("fetch_s", 0.0)),
        read_s=float(said.get("read_s", 0.0)),
        look_ahead=int(said.get("look_ahead", 4)),
    )
    rules = with_bounds(Rules(), int(said.get("least", 0)), int(said.get("most", 6)), costs)
    rules = Rules(**{**{name: getattr(rules, name) for name in rules.__slots__}, **said.get("rules", {})})
    return Service(trace_of(requests), ByWork(rules), costs, int(said.get("replicas", 0))).run()


def trace_of(requests: Sequence[Mapping[str, Any]]) -> Trace:
    """The requests as a trace, from the arrival of the first on."""
    found: dict[Kind, int] = {}
    loras: dict[str, int] = {}
    keys: dict[str, int] = {}
    rows = []
    for each in requests:
        steps, work = int(each["steps"]), float(each["row_steps"])
        base, size = str(each.get("base", "")), int(each.get("size", 1024))
        kind = Kind(f"{steps} steps", 0.0, steps, float(each["rows"]), work / steps, work, base, size)
        numbers = [
            found.setdefault(kind, len(found)),
            loras.setdefault(str(each.get("loras", "")), len(loras)),
            keys.setdefault(str(each.get("key", "")), len(keys)),
            int(each.get("priority", 0)),
        ]
        rows.append((float(each["at"]) - float(requests[0]["at"]), *numbers))
    at, *columns = (np.array(column) for column in zip(*rows, strict=True))
    kind_column, set_column, key_column, priority = (column.astype(np.int64) for column in columns)
    weights = [[Weights(kind.base, name) for name in loras] for kind in found]
    return Trace([*found], at.astype(np.float64), kind_column, set_column, key_column, priority, weights)


def compare_file(path: Path) -> Comparison:
    return compare(path.read_text(encoding="utf-8").splitlines())
