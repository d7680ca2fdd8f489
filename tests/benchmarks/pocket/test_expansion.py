"""The measures of the prompt expansion."""

from benchmarks.pocket.acceptance.expansion import score


def test_the_score_knows_denials_and_repetitions() -> None:
    found = score(["a sharp star", "a ring"], [["soft", "epic", "epic", "loud", "deep"], []])
    assert found == {"adds": 0.5, "opposes": 0.2, "repeats": 0.2}
