"""The simulation beside a real run: what it predicts for the requests of that run, with that run's replicas.

A run is a file of JSON lines. Its first line says what the service was:

    {"ms_by_rows": {"1": 50, "8": 120}, "starts_s": [4.1, 4.3], "rules": {"keep_s": 5}, "least": 0, "most": 6,
     "replicas": 0, "prepare_s": 0.05, "finish_s": 0.1, "react_s": 1.3, "look_ahead": 4,
     "before": [{"at": -30.0, "seconds": 3.4, "steps": 40, "rows": 2, "row_steps": 80}],
     "seen": [[0.0, 0, 0], [1.5, 6, 0], [6.0, 6, 6]]}

`ms_by_rows` is the cost of a call of the engine, which may sleep for it, by its rows; `starts_s` how long each replica
took to start, in the order of their starts; `rules` those of `deployments.autoscaling.Rules` that were set; `replicas`
how many there were at the beginning; `react_s` how long after the first arrival Serve first wanted more; `seen` how
many it wanted and how many ran, from which instant on; `before` the requests that the service had drawn one at a time
by then, which its policy remembers: when each came, counted from the first of the others, and in how many seconds it
was drawn. Every other line is a request, its instants in seconds since any beginning, which is that of `seen` too:

    {"at": 0.0, "began_at": 4.4, "ended_at": 6.1, "steps": 8, "rows": 1, "row_steps": 8, "base": "", "loras": "",
     "key": "", "priority": 0, "size": 1024}

`began_at` is the instant of its first step, `ended_at` that of its end. What stands behind `row_steps` may be left out,
as may `seen`, `ended_at`, and what else of the first line is to be taken as 0; what they tell is not compared then.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fleet.costs import Costs, Curve
from benchmarks.fleet.scaling import ByWork, with_bounds
from benchmarks.fleet.service import TICK_S, Outcome, Service
from benchmarks.fleet.trace import Kind, Trace
from benchmarks.report import Cell, Report, Table
from deployments.autoscaling import Rules
from deployments.figures import Spent
from pipelines.weights.at_hand import Weights

WITHIN = 0.2


@dataclass(frozen=True)
class Comparison:
    """Figures of a real run, and what its simulation says of them, in seconds but for numbers of replicas."""

    figures: Mapping[str, tuple[float, float]]

    def disagrees_in(self, within: float = WITHIN) -> Sequence[str]:
        """The figures that are not those of the real run, but for this share of them."""
        return [
            name for name, (real, predicted) in self.figures.items() if abs(predicted - real) > within * real + 1e-9
        ]

    def told(self) -> str:
        return "; ".join(
            f"{name}: real {real:.2f}, predicted {predicted:.2f}" for name, (real, predicted) in self.figures.items()
        )

    def rows(self, run: str) -> list[dict[str, Cell]]:
        return [
            {"run": run, "figure": name, "real": real, "simulated": predicted, "off": _share(predicted - real, real)}
            for name, (real, predicted) in self.figures.items()
        ]


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:+.0f} %" if whole else ""


def compare(lines: Sequence[str]) -> Comparison:
    """What the simulation says of a run. Raises ValueError for a run that is none."""
    said, requests = read(lines)
    outcome = replay(said, requests)
    waits = [each["began_at"] - each["at"] for each in requests]
    found = {f"wait {name} s": pair for name, pair in _spread(waits, outcome.waits.tolist()).items()}
    begun = np.array([float(each["began_at"]) for each in requests])
    predicted = np.array([float(each["at"]) for each in requests]) + outcome.waits
    found["first to last begun s"] = float(np.ptp(begun)), float(np.ptp(predicted))  # without the first one's start
    if all("ended_at" in each for each in requests):
        arrived = np.array([float(each["at"]) for each in requests])
        ended = np.array([float(each["ended_at"]) for each in requests])
        first = float(arrived[0])
        found |= {
            f"answer {name} s": pair
            for name, pair in _spread((ended - arrived).tolist(), outcome.ends.tolist()).items()
        }
        end = float(ended.max()) - first, float((arrived - first + outcome.ends).max())
        found["end of the work s"] = end
        if "seen" in said:
            found |= _replicas(said["seen"], first, end, outcome)
    return Comparison(found)


def _spread(real: Sequence[float], predicted: Sequence[float]) -> Mapping[str, tuple[float, float]]:
    """The mean, the middle and what is nearly the greatest, of both."""
    found = {"mean": (float(np.mean(real)), float(np.mean(predicted)))}
    for percent in (50, 95):
        found[f"p{percent}"] = float(np.percentile(real, percent)), float(np.percentile(predicted, percent))
    return found


def _replicas(
    seen: Sequence[Sequence[float]], first: float, end: tuple[float, float], outcome: Outcome
) -> Mapping[str, tuple[float, float]]:
    """How many there were, in the mean until the end of the work, and what they cost by then, from their starts."""
    real = np.array([(float(at) - first, wanted, running) for at, wanted, running in seen])
    simulated = np.array([(each.at, each.target, each.living) for each in outcome.samples])
    running = [_until(each[:, 0], each[:, 2], last) / last for each, last in zip((real, simulated), end, strict=True)]
    paid = _until(real[:, 0], real[:, 1:].max(axis=1), end[0])
    most = float(real[:, 2].max()), float(simulated[:, 2].max())
    return {
        "most replicas": most,
        "replicas in the mean": (running[0], running[1]),
        "all run after s": (
            float(real[real[:, 2] >= most[0], 0].min()),
            float(simulated[simulated[:, 2] >= most[1], 0].min()),
        ),
        "paid replica s": (paid, outcome.paid_s),
    }


def _until(at: Any, number: Any, end: float) -> float:
    """The sum over time, from the first arrival to the end, of what is so many from each instant on."""
    edges = np.clip(np.append(at, end), 0.0, end)
    return float((np.diff(edges) * number).sum())


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
        finish_s=float(said.get("finish_s", 0.0)),
        fetch_s=float(said.get("fetch_s", 0.0)),
        read_s=float(said.get("read_s", 0.0)),
        look_ahead=int(said.get("look_ahead", 4)),
        react_s=max(0.0, float(said.get("react_s", 0.0)) - TICK_S),  # what comes first is counted a tick later
    )
    rules = with_bounds(Rules(), int(said.get("least", 0)), int(said.get("most", 6)), costs)
    rules = Rules(**{**{name: getattr(rules, name) for name in rules.__slots__}, **said.get("rules", {})})
    before = [
        (each["at"], Spent(0, each["steps"], each["steps"] * each["rows"], each["row_steps"], each["seconds"]))
        for each in said.get("before", ())
    ]
    return Service(trace_of(requests), ByWork(rules), costs, int(said.get("replicas", 0)), 1, before).run()


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


def compare_files(files: Sequence[Path], command: str) -> tuple[Sequence[Comparison], Report]:
    """Each of these runs, and all of them as a report."""
    compared, facts, rows = [], dict[str, Cell](), list[dict[str, Cell]]()
    for file in files:
        lines = file.read_text(encoding="utf-8").splitlines()
        said, requests = read(lines)
        compared.append(compare(lines))
        facts[file.stem] = f"{len(requests)} requests, {said.get('least', 0)} to {said.get('most', 6)} replicas"
        facts[f"{file.stem}, measured and given to the simulation"] = ", ".join(
            f"{name} {said[name]}" for name in ("starts_s", "prepare_s", "finish_s", "react_s") if name in said
        )
        rows += compared[-1].rows(file.stem)
    return compared, Report("fleet_agreement", command, facts, [Table("Real runs and their simulation", rows)])
