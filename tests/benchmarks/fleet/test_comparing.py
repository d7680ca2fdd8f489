import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.fleet.__main__ import main
from benchmarks.fleet.comparing import compare, read, replay

SERVICE = {"ms_by_rows": {"1": 40, "4": 100}, "starts_s": [3.0, 5.0], "least": 0, "most": 6, "rules": {"keep_s": 5}}


def run(late: float = 0.0) -> Sequence[str]:
    """The lines of a run whose requests began when the simulation says, and `late` seconds after that."""
    requests = [
        {"at": 100 + number / 10, "began_at": 0.0, "steps": 20, "rows": 1, "row_steps": 20} for number in range(60)
    ]
    waits = replay(SERVICE, requests).waits
    told = [{**each, "began_at": each["at"] + wait + late} for each, wait in zip(requests, waits.tolist(), strict=True)]
    return [json.dumps(each) for each in (SERVICE, *told)]


def test_a_run_that_went_as_simulated_agrees() -> None:
    compared = compare(run())
    assert compared.predicted == pytest.approx(compared.real)
    assert compared.agrees()
    assert min(compared.real) >= 0 < compared.of(95)[0]


def test_a_run_in_which_requests_waited_much_longer_does_not() -> None:
    assert not compare(run(late=30.0)).agrees()


def test_nobody_waits_shorter_than_the_first_start_takes() -> None:
    assert compare(run()).predicted[0] >= 3.0


def test_requests_are_taken_in_the_order_of_their_arrival() -> None:
    said, *requests = run()
    assert compare([said, *reversed(requests)]).predicted == pytest.approx(compare(run()).predicted)


@pytest.mark.parametrize("lines", [[], ["{}"], ['{"at": 1}', '{"at": 2}'], [json.dumps(SERVICE)]])
def test_what_is_no_run_is_refused(lines: Sequence[str]) -> None:
    with pytest.raises(ValueError, match="first line of a run"):
        read(lines)


def test_the_command_says_whether_they_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.jsonl"
    file.write_text("\n".join(run()))
    assert main(["--compare", str(file)]) == 0
    assert "p95: real" in capsys.readouterr().out
    file.write_text("\n".join(run(late=30.0)))
    assert main(["--compare", str(file)]) == 1
