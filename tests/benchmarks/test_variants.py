"""The benchmark of variants runs, and says what a switch costs."""

from pathlib import Path

import pytest

from benchmarks.variants import main


def test_it_tells_the_cost_of_a_switch(pocket_family_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(pocket_family_folder), "--repeats", "1", "--size", "64", "--steps", "1"])
    told = capsys.readouterr().out
    assert "| merge parsed files |" in told
    assert "% of a request." in told
