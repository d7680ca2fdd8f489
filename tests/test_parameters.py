"""`docs/parameters.md` has a row for every field of every endpoint, and each row names a test that is there."""

import ast
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from gateway.endpoints import ENDPOINTS
from gateway.endpoints.base import Family
from tests.integration.fields import CHECKS
from tests.pages import ROOT, page, section

TITLES: dict[Family, str] = {"fooocus": "Fooocus endpoints", "fast": "Fast endpoints"}

Row = tuple[str, str, str, str]


def rows(family: Family) -> list[Row]:
    """Field, meaning, effect and test of each row."""
    text = section(page("docs/parameters.md"), TITLES[family])
    cells = [[cell.strip() for cell in line.strip("|").split(" |")] for line in text.splitlines() if line[:3] == "| `"]
    return [(field.strip("`"), meaning, effect, test.strip("`")) for field, meaning, effect, test in cells]


def fields(model: type[BaseModel]) -> Iterator[str]:
    """Dotted names of a schema's fields; `image_prompt_N` stands for its four."""
    for name, field in model.model_fields.items():
        spoken = re.sub(r"(image_prompt)_\d", r"\1_N", name)
        parts = [each for each in parts_of(field.annotation) if name != "image_size"]
        if not parts:
            yield spoken
        for part in parts:
            yield from (f"{spoken}.{inner}" for inner in fields(part))


def parts_of(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from parts_of(inner)


@pytest.mark.parametrize("family", TITLES)
def test_every_field_has_its_row_and_no_other_has(family: Family) -> None:
    asked = [endpoint.input for endpoint in ENDPOINTS.values() if endpoint.input.family == family]
    named = [field for field, *_ in rows(family)]
    assert len(named) == len(set(named))
    assert set(named) == {field for each in asked for field in fields(each)}


@pytest.mark.parametrize("family", TITLES)
def test_a_row_names_a_test_that_is_there_or_says_why_there_is_none(family: Family) -> None:
    for field, _, effect, test in rows(family):
        if not test:
            assert effect.startswith("none"), field
            continue
        path, name = test.split("::")
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert name in {each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}, (
            test
        )


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_field_has_a_check_through_the_service(endpoint: str) -> None:
    assert set(CHECKS[endpoint]) == set(fields(ENDPOINTS[endpoint].input))
