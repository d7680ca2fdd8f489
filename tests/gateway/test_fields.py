"""Dotted places become the lists of fal's errors."""

import pytest

from gateway.errors import location


@pytest.mark.parametrize(
    ("field", "expected"),
    [("", ()), ("image_url", ("image_url",)), ("loras.0.path", ("loras", 0, "path"))],
)
def test_a_dotted_place_becomes_a_list(field: str, expected: tuple[str | int, ...]) -> None:
    assert location(field) == expected
