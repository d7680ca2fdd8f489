"""Mixed arrivals: every competitor draws every job, and the report compares them by CPU time and UNet calls."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.mixed_arrivals import job, main
from benchmarks.plain import Call, Work
from benchmarks.rounds import Arrival, play
from pipelines.events import Pixels
from pipelines.weights.family import Family

TINY = "--jobs 8 --size 64 --gap 0.02 --rounds 1 --steps 1 1 1 2 --neighbours 1".split()
SLEPT_S = 0.5


# diffusers' scheduler hands a tensor to numpy in a way that numpy 2 deprecates
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.long  # four competitors, and neighbours: half a minute
def test_it_compares_the_engine_with_each_competitor_and_draws_their_calls(
    tmp_path: Path, pocket_family_folder: Path
) -> None:
    assert main([*TINY, "--out", str(tmp_path)]) == 0
    figures, ratios, beside = json.loads((tmp_path / "mixed_arrivals.json").read_bytes())["tables"].values()
    names = ["engine", "@serve.batch", "@serve.batch, a queue a sort, unpadded", "one after the other"]
    assert [row["competitor"] for row in figures] == names
    assert [row["other"] for row in ratios] == names[1:]
    for other, ratio in zip(figures[1:], ratios, strict=True):
        for name in ("total", "mean", "p95", "UNet calls"):
            assert ratio[name] == ratio[f"{name}, worst round"] == pytest.approx(figures[0][name] / other[name])
    alone = figures[-1]
    assert alone["UNet calls"] == 2 * (1 + 1 + 1 + 2)  # each step of each job, with control and without
    assert alone["rows"] == 2 * (1 + 1 + 2 * (1 + 2))  # half of them guided
    assert figures[0]["rows"] == alone["rows"]
    assert {row["competitor"] for row in beside} == set(names[:2])
    assert all(row["beside / alone"] > 0 for row in beside)
    drawing = (tmp_path / "mixed_arrivals.svg").read_text(encoding="utf-8")
    assert all(f"{name}: the last call" in drawing for name in names)


class Sleeper:
    """Takes time and no processor."""

    name = "sleeper"
    calls: tuple[Call, ...] = ()

    def draw(self, work: Work) -> Pixels:
        time.sleep(SLEPT_S)
        return np.zeros((8, 8, 3), np.uint8)

    def close(self) -> None:
        """It holds nothing."""


def test_what_counts_is_the_time_of_the_processor(pocket_family: Family) -> None:
    work = job(pocket_family, 0, 1, 64, 1, controlled=False)
    told = play(Sleeper(), [Arrival(0.0, work), Arrival(0.1, work)])
    assert told.wall_s > SLEPT_S
    assert told.total < SLEPT_S / 2
    assert max(told.latencies) < SLEPT_S / 2
