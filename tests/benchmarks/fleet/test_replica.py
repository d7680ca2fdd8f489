import pytest

from benchmarks.fleet.costs import Curve
from benchmarks.fleet.replica import PATIENCE, AtHand, Replica
from pipelines.engine.scheduler import PATIENCE as OF_THE_ENGINE
from pipelines.weights.at_hand import Weights

CURVE = Curve([(1, 100.0), (2, 150.0), (4, 200.0)])
OWN, OTHER = ("", 1024), ("lcm", 1024)


def replica(sets: int = 2) -> Replica:
    return Replica(1, CURVE, sets, 0.0, 0.0)


def played(drawn: Replica) -> dict[int, float]:
    """When which job ends."""
    ends: dict[int, float] = {}
    while (at := drawn.next_end()) is not None:
        ends.update(dict.fromkeys(drawn.ended(at), at))
    return ends


def test_a_job_alone_takes_a_call_a_step() -> None:
    drawn = replica()
    drawn.begin(1.0, 7, OWN, 1.0, 1.0, 10)
    assert played(drawn) == {7: pytest.approx(2.0)}
    assert drawn.busy_s == pytest.approx(1.0)
    assert drawn.done_cost == pytest.approx(10)


def test_a_job_joins_the_calls_of_another_one_and_leaves_them() -> None:
    drawn = replica()
    drawn.begin(0.0, 1, OWN, 1.0, 1.0, 20)
    drawn.begin(1.0, 2, OWN, 1.0, 1.0, 4)
    # 10 steps alone, 4 of both, 6 alone
    assert played(drawn) == {2: pytest.approx(1.6), 1: pytest.approx(2.2)}


def test_unlike_weights_take_turns_and_the_least_work_goes_first() -> None:
    drawn = replica()
    drawn.begin(0.0, 1, OWN, 1.0, 1.0, 60)
    drawn.begin(0.0, 2, OTHER, 1.0, 1.0, 8)
    ends = played(drawn)
    assert ends[2] == pytest.approx(0.1 * (PATIENCE + 1) / PATIENCE * 8)
    assert ends[1] == pytest.approx(6.8)


def test_the_engine_is_as_patient() -> None:
    assert PATIENCE == OF_THE_ENGINE


def test_what_was_used_longest_ago_is_at_hand_no_more_but_its_file_is() -> None:
    drawn = replica(sets=2)
    sets = [Weights("", name) for name in ("a", "b", "a", "c", "b")]
    assert [drawn.take(weights, 1.0) for weights in sets] == [
        AtHand.NOTHING,
        AtHand.NOTHING,
        AtHand.LOADED,
        AtHand.NOTHING,
        AtHand.FILE,
    ]
    assert drawn.take(Weights(), 1.0) is AtHand.LOADED
    assert Weights("", "a") not in drawn.state.holds
