"""The benchmark of image prompts runs, and says what they cost and what their neighbours pay."""

from pathlib import Path

import pytest

from benchmarks.image_prompts import main


@pytest.mark.long  # half a minute
def test_it_tells_the_cost_of_image_prompts_and_of_their_neighbours(
    pocket_family_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--family", str(pocket_family_folder), "--rounds", "1", "--size", "64"])
    told = capsys.readouterr().out
    assert "| image prompts | median | worst round |" in told
    assert "of which half have one" in told
