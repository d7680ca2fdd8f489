"""The table of what the pocket model was measured to do."""

from pathlib import Path

from benchmarks.pocket.acceptance.metric import Metric
from benchmarks.pocket.evaluate import HEAD, record, row


def test_a_gate_measured_again_takes_the_place_of_its_rows_and_others_stay(tmp_path: Path) -> None:
    table = tmp_path / "table.md"
    first, second, tenth = (row(gate, Metric("figure", 0.5, 0.4), 100, "") for gate in (1, 2, 10))
    record(table, 10, [tenth])
    record(table, 2, ["| 2 | old | | | | |", "| 2 | older | | | | |"])
    record(table, 1, [first])
    record(table, 2, [second])
    assert table.read_text().splitlines() == [*HEAD, first, second, tenth]


def test_what_is_missed_says_so() -> None:
    assert row(3, Metric("shape", 0.8, 0.83), 9, "") == "| 3 | shape | 0.800 (missed) | at least 0.830 | 9 |  |"
    assert row(3, Metric("shape", 0.8, 0.83, below=True), 9, "7") == "| 3 | shape | 0.800 | at most 0.830 | 9 | 7 |"


def test_ten_points_less_than_93_are_reached_by_83() -> None:
    assert Metric("shape", 0.83, 0.93 - 0.1).met
    assert not Metric("shape", 0.82, 0.93 - 0.1).met
    assert Metric("grain", 0.3, 0.1 * 3, below=True).met
