"""Gate 11: how long the engine takes for one picture of Fooocus' usual size in its fastest usual mode."""

import time

from benchmarks.pocket.acceptance.engine import drawn, extreme_speed
from benchmarks.pocket.acceptance.metric import Metric
from pipelines.drawing import Drawer
from pipelines.weights.family import Family

SIDE, WANTED_S = 1024, 5.0


def extreme(drawer: Drawer, family: Family) -> Metric:
    """The best of three, after one to warm up."""
    took = []
    for seed in range(4):
        begun = time.perf_counter()
        drawn(drawer, family.catalogue, [extreme_speed("a red circle on a blue background", SIDE, seed)])
        took.append(time.perf_counter() - begun)
    return Metric(f"Extreme Speed, {SIDE} x {SIDE}: seconds", min(took[1:]), WANTED_S, below=True)
