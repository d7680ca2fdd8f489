"""Mixed arrivals: every competitor draws every job, and the report compares them."""

import json
from pathlib import Path

import pytest

from benchmarks.mixed_arrivals import main

TINY = "--jobs 4 --size 64 --gap 0.02 --rounds 1 --steps 1 1 1 2 --neighbours 1".split()


# diffusers' scheduler hands a tensor to numpy in a way that numpy 2 deprecates
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_it_compares_the_engine_with_each_competitor_and_draws_their_calls(
    tmp_path: Path, pocket_family_folder: Path
) -> None:
    assert main([*TINY, "--out", str(tmp_path)]) == 0
    figures, ratios, beside = json.loads((tmp_path / "mixed_arrivals.json").read_bytes())["tables"].values()
    names = ["engine", "@serve.batch", "@serve.batch, a queue a sort, unpadded", "one after the other"]
    assert [row["competitor"] for row in figures] == names
    assert [row["other"] for row in ratios] == names[1:]
    for other, ratio in zip(figures[1:], ratios, strict=True):
        for name in ("total", "mean", "p95"):
            assert ratio[name] == pytest.approx(figures[0][name] / other[name])
    assert {row["competitor"] for row in beside} == set(names[:2])
    assert all(row["beside / alone"] > 0 for row in beside)
    drawing = (tmp_path / "mixed_arrivals.svg").read_text(encoding="utf-8")
    assert all(f"{name}: the last call" in drawing for name in names)
