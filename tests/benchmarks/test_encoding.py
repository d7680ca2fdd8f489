"""The cost of encoding: every setting is measured on both pictures, and the cheap ones cost the bytes that they say."""

import json
from pathlib import Path

from benchmarks.encoding import SETTINGS, main


def test_each_setting_has_its_row_for_each_picture(tmp_path: Path) -> None:
    main(["--size", "128", "--rounds", "1", "--out", str(tmp_path)])
    tables = json.loads((tmp_path / "encoding.json").read_text())["tables"]
    assert len(tables) == 2
    for rows in tables.values():
        size = {row["as"]: row["KiB"] for row in rows}
        assert [*size] == [*SETTINGS]
        assert size["jpeg"] > size["jpeg, jpeg_optimize"]
