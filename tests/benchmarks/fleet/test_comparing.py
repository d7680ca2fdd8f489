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
    assert all(predicted == pytest.approx(real) for real, predicted in compared.figures.values())
    assert compared.disagrees_in() == []
    assert compared.figures["wait p95 s"][0] > 0


def test_a_run_in_which_requests_waited_much_longer_does_not() -> None:
    assert compare(run(late=30.0)).disagrees_in() == ["wait mean s", "wait p50 s", "wait p95 s"]


def test_nobody_waits_shorter_than_the_first_start_takes() -> None:
    said, requests = read(run())
    assert replay(said, requests).waits[0] >= 3.0


def test_requests_are_taken_in_the_order_of_their_arrival() -> None:
    said, *requests = run()
    assert compare([said, *reversed(requests)]) == compare(run())


def test_a_place_is_taken_from_before_the_first_step_until_after_the_last() -> None:
    alone = {"at": 0.0, "began_at": 0.0, "steps": 10, "rows": 4, "row_steps": 40}
    said = {**SERVICE, "replicas": 1, "least": 1, "most": 1, "prepare_s": 0.5, "finish_s": 0.25}
    outcome = replay(said, [alone, alone])
    assert outcome.ends.tolist() == pytest.approx([1.75, 3.5])


def test_replicas_start_as_long_after_the_first_arrival_as_serve_took_to_want_them() -> None:
    alone = {"at": 0.0, "began_at": 0.0, "steps": 10, "rows": 4, "row_steps": 40}
    assert replay({**SERVICE, "react_s": 1.5}, [alone]).waits[0] == pytest.approx(1.5 + 3.0)


def test_the_policy_knows_the_pace_of_what_was_drawn_before() -> None:
    """Of slow row-steps there are more replicas for the same ones."""
    at_once = [{"at": 0.0, "began_at": 0.0, "steps": 20, "rows": 1, "row_steps": 20} for _ in range(40)]
    before = [
        {"at": -90.0, "seconds": 20 * seconds, "steps": 20, "rows": 1, "row_steps": 20} for seconds in (0.02, 0.2)
    ]
    fast, slow = (replay({**SERVICE, "before": [each]}, at_once).most for each in before)
    assert 1 < fast < slow


def test_the_end_of_the_work_and_the_replicas_until_then_are_compared_where_they_are_told() -> None:
    said, requests = read(run())
    outcome = replay(said, requests)
    ended = [{**each, "ended_at": each["at"] + end} for each, end in zip(requests, outcome.ends, strict=True)]
    seen = [[100 + each.at, each.target, each.living] for each in outcome.samples]
    lines = [json.dumps({**said, "seen": seen}), *map(json.dumps, ended)]
    compared = compare(lines)
    assert compared.disagrees_in(0.05) == []
    assert {"answer p95 s", "end of the work s", "replicas in the mean", "paid replica s"} < {*compared.figures}
    fewer = [[at, wanted / 2, running / 2] for at, wanted, running in seen]
    assert compare([json.dumps({**said, "seen": fewer}), *lines[1:]]).disagrees_in() == [
        "most replicas",
        "replicas in the mean",
        "paid replica s",
    ]


@pytest.mark.parametrize("lines", [[], ["{}"], ['{"at": 1}', '{"at": 2}'], [json.dumps(SERVICE)]])
def test_what_is_no_run_is_refused(lines: Sequence[str]) -> None:
    with pytest.raises(ValueError, match="first line of a run"):
        read(lines)


def test_the_command_says_whether_they_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.jsonl"
    file.write_text("\n".join(run()))
    assert main(["--compare", str(file), "--out", str(tmp_path)]) == 0
    assert "| wait p95 s |" in capsys.readouterr().out
    assert "| wait p95 s |" in (tmp_path / "fleet_agreement.md").read_text()
    file.write_text("\n".join(run(late=30.0)))
    assert main(["--compare", str(file), "--out", str(tmp_path)]) == 1
