"""Emphasis follows its grammar, and no text is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.prompts.emphasis import parse_emphasis
from tests.pipelines.prompts.timing import least_seconds


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("plain", [("plain", 1.0)]),
        ("a (red) cat", [("a ", 1.0), ("red", 1.1), (" cat", 1.0)]),
        ("((very))", [("very", 1.1 * 1.1)]),
        ("(red:1.3)", [("red", 1.3)]),
        ("(a (b:0.5) c)", [("a ", 1.1), ("b", 0.5), (" c", 1.1)]),
        ("(a (b) c:2)", [("a ", 2.0), ("b", 2.2), (" c", 2.0)]),
        (r"\(literal\)", [("(literal)", 1.0)]),
        ("(unclosed", [("(unclosed", 1.0)]),
        ("smile :)", [("smile :)", 1.0)]),
        ("(ratio 16:9x)", [("ratio 16:9x", 1.1)]),
        ("(a:nan)", [("a:nan", 1.1)]),
        ("(to:infinity)", [("to:infinity", 1.1)]),
        ("(a:1e308)", [("a", 1e6)]),
        ("(a:-1e999)", [("a", -1e6)]),
        ("(" * 931 + "a" + ")" * 931, [("a", 1e6)]),
    ],
)
def test_pieces(text: str, pieces: list[tuple[str, float]]) -> None:
    found = parse_emphasis(text)
    assert [piece for piece, _ in found] == [piece for piece, _ in pieces]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in pieces])


@given(st.text(alphabet="ab :()\\19e.-", max_size=40))
def test_any_text_parses_and_weights_are_finite(text: str) -> None:
    assert all(abs(weight) <= 1e6 for _, weight in parse_emphasis(text))


@given(st.text(alphabet="ab ,", max_size=40))
def test_text_without_parentheses_is_kept_whole(text: str) -> None:
    assert "".join(piece for piece, _ in parse_emphasis(text)) == text


@pytest.mark.parametrize("text", ["(" * 10_000, "(" * 5_000 + ")" * 5_000, "(a:" * 3_000, "(" * 5_000 + "a:1.2)" * 800])
def test_no_prompt_takes_long_or_too_deep(text: str) -> None:
    """It is parsed on the engine's thread, where everybody waits."""
    assert least_seconds(lambda: parse_emphasis(text)) < 1
