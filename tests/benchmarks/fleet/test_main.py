import json
from pathlib import Path

from benchmarks.fleet.__main__ import main


def test_the_policies_stand_beside_each_other_in_a_table_and_a_picture(tmp_path: Path) -> None:
    arguments = [
        "--requests",
        "1000",
        "--seeds",
        "1",
        "2",
        "--cases",
        "burst",
        "--workers",
        "2",
        "--out",
        str(tmp_path),
    ]
    assert main(arguments) == 0
    written = json.loads((tmp_path / "fleet.json").read_bytes())
    (rows,) = (table for table in written["tables"].values() if table)
    assert [row["policy"] for row in rows] == ["by work (ours)", "Serve's default", "clairvoyant"]
    assert all(row["seeds"] == 2 and 0 < row["utilisation"] <= 1 for row in rows)
    assert "wait p95 s" in (tmp_path / "fleet.md").read_text()
    assert (tmp_path / "fleet_burst.svg").read_text().startswith("<svg")
