"""Prompt lines are split and cleaned as fooocus-facts 3.1 says."""

import pytest

from pipelines.prompts.lines import prompt_lines


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        (" , . ", [""]),
        ("a  red   cat,", ["a red cat"]),
        ("first\n\n  second.\r\nthird", ["first", "second", "third"]),
        (". dotted, inside .", ["dotted, inside"]),
    ],
)
def test_lines(text: str, lines: list[str]) -> None:
    assert prompt_lines(text) == lines
