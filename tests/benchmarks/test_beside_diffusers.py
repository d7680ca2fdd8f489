"""The engine beside diffusers' pipeline: both do the same work, and the table says what each took."""

import json
from pathlib import Path

import pytest

from benchmarks.beside_diffusers import main


# diffusers' scheduler hands a tensor to numpy in a way that numpy 2 deprecates
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_both_draw_the_same_work_and_are_compared(tmp_path: Path, pocket_family_folder: Path) -> None:
    given = "--rounds 1 --steps 2 --sizes 64 --pictures 1 2 --out".split()
    assert main([*given, str(tmp_path)]) == 0
    (rows,) = json.loads((tmp_path / "beside_diffusers.json").read_bytes())["tables"].values()
    assert [(row["pictures at once"], row["guided"]) for row in rows] == [(1, "yes"), (2, "yes"), (1, "no"), (2, "no")]
    for row in rows:
        assert row["engine / diffusers"] == pytest.approx(row["engine"] / row["diffusers"])
        assert 0 < row["outside, engine %"] < 100
        assert 0 < row["outside, diffusers %"] < 100
        assert row["UNet calls, diffusers"] == 2
