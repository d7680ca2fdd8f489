"""Memory over many different sets of LoRAs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

MEGABYTE = 2**20


@pytest.mark.long
def test_two_hundred_sets_leave_the_resident_memory_flat(pocket_family_folder: Path) -> None:
    """Over a gigabyte is merged, in a process of its own; once the budget is full, it grows by 64 MB at most."""
    program = [sys.executable, "-m", "tests.pipelines.weights.many_sets", str(pocket_family_folder)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["kept"] <= 96 * MEGABYTE
    assert told["merged"] > 1000 * MEGABYTE
    assert told["grown"] < 64 * MEGABYTE
