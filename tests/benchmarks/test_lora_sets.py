"""LoRA sets: every competitor draws every request, and rows that carry their LoRAs share the engine's calls."""

import json
from pathlib import Path

import pytest

from benchmarks.lora_sets import main

JOBS, STEPS = 3, 2
TINY = f"--jobs {JOBS} --size 64 --steps {STEPS} --rounds 1".split()


# diffusers' scheduler hands a tensor to numpy in a way that numpy 2 deprecates
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_it_compares_rows_that_carry_loras_with_merging(tmp_path: Path, pocket_family_folder: Path) -> None:
    assert main([*TINY, "--out", str(tmp_path)]) == 0
    figures, ratios = json.loads((tmp_path / "lora_sets.json").read_bytes())["tables"].values()
    names = ["engine", "engine, merged sets", "@serve.batch", "merge and switch"]
    assert [row["competitor"] for row in figures] == names
    assert [row["other"] for row in ratios] == names[1:]
    for other, ratio in zip(figures[1:], ratios, strict=True):
        assert ratio["total"] == pytest.approx(figures[0]["total"] / other["total"])
        assert other["UNet calls"] == JOBS * STEPS
    assert figures[0]["UNet calls"] < JOBS * STEPS
