"""What a mask keeps of what is done to it. The module is run by node, without a page."""

from typing import Any

from tests.gateway.playground.by_node import by_node

MOST_UNDONE = 60
FIRST, SECOND = [1, 1], [2, 2]


def kept(*steps: Any) -> Any:
    """The points of the strokes that are done, undone and running."""
    return by_node("mask.mjs", steps)


def begun(points: list[int]) -> Any:
    return ["begin", {"kind": "stroke", "erases": False, "size": 8, "points": points}]


def test_a_stroke_that_is_undone_while_it_runs_is_not_gone_on_with() -> None:
    assert kept(begun(FIRST), ["end"], begun(SECOND), ["extend", 3, 3], ["undo"], ["extend", 9, 9], ["end"]) == {
        "done": [FIRST],
        "undone": [[2, 2, 3, 3]],
    }


def test_a_stroke_that_was_none_leaves_what_was_undone() -> None:
    assert kept(begun(FIRST), ["end"], ["undo"], begun(SECOND), ["drop"]) == {"done": [], "undone": [FIRST]}


def test_a_stroke_that_was_none_costs_nothing_that_can_be_undone() -> None:
    strokes = [step for at in range(MOST_UNDONE) for step in (begun([at, at]), ["end"])]
    told = kept(*strokes, begun(SECOND), ["drop"])
    assert told["done"] == [[at, at] for at in range(MOST_UNDONE)]


def test_what_is_done_while_a_stroke_runs_comes_after_it() -> None:
    assert kept(begun(FIRST), begun(SECOND), ["extend", 3, 3]) == {
        "done": [FIRST],
        "undone": [],
        "running": [2, 2, 3, 3],
    }
