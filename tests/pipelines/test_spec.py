"""The pictures of a spec by role."""

from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.spec import Spec, Start, Structure

START = Start(source="data:a", strength=0.5, field="image_url")
EDGES = Structure(kind="PyraCanny", source="data:b", weight=0.5, stop_at=0.9, field="image_prompt_1.image_url")
SHADES = Structure(kind="CPDS", source="data:b")


def spec(*pictures: Any) -> Spec:
    return Spec(seeds=(1,), steps=4, sampler="euler", schedule="karras", pictures=pictures)


def test_pictures_of_all_roles_come_back_from_json_as_they_were() -> None:
    given = spec(EDGES, START, SHADES)
    assert Spec.model_validate_json(given.model_dump_json()) == given


def test_the_start_is_found_among_the_others() -> None:
    assert spec(EDGES, START).start == START
    assert spec(EDGES, SHADES).start is None


def test_there_is_one_start_at_most() -> None:
    with pytest.raises(ValidationError, match="one start"):
        spec(START, EDGES, START)


@pytest.mark.parametrize(
    "picture", [{"role": "reference"}, {"role": "structure", "kind": "canny"}, {"role": "start", "strength": 0}]
)
def test_what_nobody_can_draw_from_is_no_picture(picture: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        spec({"source": "https://example.com/a.png", **picture})


def test_sources_are_replaced_by_place_whatever_they_were() -> None:
    """Two of them are equal."""
    given = spec(START, EDGES, SHADES)
    changed = given.with_sources({0: "stored:0", 2: "stored:2"})
    assert [picture.source for picture in changed.pictures] == ["stored:0", "data:b", "stored:2"]
    assert changed.with_sources({0: "data:a", 2: "data:b"}) == given
    with pytest.raises(IndexError):
        given.with_sources({3: "stored:3"})
