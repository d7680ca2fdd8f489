import json
from pathlib import Path

import pytest

from benchmarks.fleet.__main__ import RESULTS
from benchmarks.fleet.costs import GPU, Curve, read_curve

CURVE = Curve([(1, 40.0), (4, 100.0), (16, 320.0)])


@pytest.mark.parametrize(("rows", "ms"), [(0.5, 40), (1, 40), (2, 60), (4, 100), (10, 210), (16, 320)])
def test_a_call_between_two_measured_ones_costs_what_lies_between(rows: float, ms: float) -> None:
    assert CURVE.seconds(rows) * 1000 == pytest.approx(ms)


def test_rows_beyond_a_full_call_take_a_step_in_as_many_calls_as_they_fill() -> None:
    assert CURVE.seconds(32) == pytest.approx(2 * CURVE.seconds(16))
    assert CURVE.full_ms == 20


def test_a_row_costs_less_the_more_of_them_a_call_of_the_committed_table_holds() -> None:
    curve = read_curve(RESULTS)
    assert curve.most == 16
    assert curve.seconds(16) / 16 < curve.seconds(4) / 4 < curve.seconds(1)


def test_a_table_of_a_gpu_goes_before_that_of_the_pocket_model(tmp_path: Path) -> None:
    rows = [
        {"switch": "plain", "kind": "alike", "size": 1024, "rows": 2, "ms": 50.0},
        {"switch": "plain", "kind": "alike", "size": 1024, "rows": 1, "ms": 30.0},
        {"switch": "plain", "kind": "alike", "size": 512, "rows": 1, "ms": 9.0},
        {"switch": "ahead", "kind": "alike", "size": 1024, "rows": 1, "ms": 8.0},
    ]
    (tmp_path / GPU).write_text(json.dumps({"tables": {"UNet calls": rows, "Merging": [{"ms": 1.0}]}}))
    assert read_curve(tmp_path).points == [(1, 30), (2, 50)]


def test_a_cost_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs points"):
        Curve([(1, 0.0)])
