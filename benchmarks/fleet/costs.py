"""What replicas cost and take in a simulation: the milliseconds of a UNet call by its rows, starts, and LoRA files."""

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GPU, POCKET = "gpu_sdxl.json", "beside_diffusers.json"
POCKET_SIDE, POCKET_STEPS = 256, 20


@dataclass(frozen=True)
class Curve:
    """Milliseconds of a UNet call by its rows of a megapixel, between measured points by straight lines."""

    points: Sequence[tuple[float, float]]
    source: str = ""
    _known: dict[float, float] = field(default_factory=dict, repr=False, compare=False)  # seconds by rows

    def __post_init__(self) -> None:
        if not self.points or any(rows <= 0 or ms <= 0 for rows, ms in self.points):
            raise ValueError(f"The cost of a call needs points of rows and milliseconds above 0, not {self.points}.")

    @property
    def most(self) -> float:
        """The most rows that a call holds."""
        return self.points[-1][0]

    @property
    def full_ms(self) -> float:
        """Of a row in a call that is full."""
        return self.points[-1][1] / self.most

    def seconds(self, rows: float) -> float:
        """In which every one of these rows takes a step: one call, or as many as they fill."""
        seconds = self._known.get(rows)
        if seconds is None:
            seconds = self._known[rows] = self._between_points(rows)
        return seconds

    def _between_points(self, rows: float) -> float:
        points = self.points
        if rows >= self.most:
            return rows * self.full_ms / 1000
        at = bisect_left(points, (rows, 0.0))
        upper_rows, upper = points[at]
        if at == 0:
            return upper / 1000
        lower_rows, lower = points[at - 1]
        return (lower + (upper - lower) * (rows - lower_rows) / (upper_rows - lower_rows)) / 1000

    def times(self, factor: float) -> "Curve":
        """That of a device on which every call takes so many times as long."""
        return Curve([(rows, ms * factor) for rows, ms in self.points], f"{self.source}, times {factor:g}")


@dataclass(frozen=True)
class Costs:
    """What else takes time, in seconds.

    start_s: from when a replica is wanted, and paid for, until it draws; starts: likewise of the first ones. prepare_s:
    of a request in its place, before its first step; finish_s: behind its last. fetch_s: beside it, where its LoRAs
    were never there; read_s: where they were and are not at hand, of which a replica keeps `sets`. look_ahead: requests
    that a dispatcher holds beyond what the replicas can. react_s: from when figures are counted until the policy acts
    on them.
    """

    curve: Curve
    start_s: float = 60.0
    prepare_s: float = 0.0
    finish_s: float = 0.0
    fetch_s: float = 1.7
    read_s: float = 0.12
    sets: int = 32
    look_ahead: int = 4
    react_s: float = 0.0
    starts: Sequence[float] = ()

    def start_of(self, number: int) -> float:
        """Of the replica that starts as the number-th, from 0 on."""
        return self.starts[number] if number < len(self.starts) else self.start_s


def read_curve(results: Path) -> Curve:
    """From the committed table of SDXL on a GPU; where that is not there, of the pocket model on a CPU."""
    if (results / GPU).is_file():
        return gpu_curve(json.loads((results / GPU).read_bytes()))
    return pocket_curve(json.loads((results / POCKET).read_bytes()))


def gpu_curve(written: Mapping[str, Any]) -> Curve:
    """Of the engine's plain path at 1024 x 1024."""
    found = {
        float(row["rows"]): float(row["ms"])
        for table in written["tables"].values()
        for row in table
        if row.get("switch") == "plain" and row.get("kind") == "alike" and row.get("size") == 1024
    }
    return Curve(sorted(found.items()), f"{GPU}, plain calls at 1024 x 1024")


def pocket_curve(written: Mapping[str, Any]) -> Curve:
    """A picture's CPU seconds over its steps, text, VAE and all that is around them included."""
    (table,) = written["tables"].values()
    found: dict[float, list[float]] = {}
    for row in table:
        if row["size"] == POCKET_SIDE:
            rows = float(row["pictures at once"] * (2 if row["guided"] == "yes" else 1))
            found.setdefault(rows, []).append(float(row["engine"]) / POCKET_STEPS * 1000)
    points = sorted((rows, sum(each) / len(each)) for rows, each in found.items())
    return Curve(points, f"{POCKET}, the pocket model at {POCKET_SIDE} x {POCKET_SIDE} on a CPU")
