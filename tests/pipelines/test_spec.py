"""The pictures of a spec by role."""

from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.spec import Canvas, Mask, Spec, Start, Structure, Upscale, Vary

VARY = Vary(source="data:c", strength=0.85, field="uov_image_url")
UPSCALE = Upscale(source="data:d", factor=1.5, field="uov_image_url")
START = Start(source="data:a", strength=0.5, field="image_url")
EDGES = Structure(kind="PyraCanny", source="data:b", weight=0.5, stop_at=0.9, field="image_prompt_1.image_url")
SHADES = Structure(kind="CPDS", source="data:b")
CANVAS = Canvas(source="data:e", outpaint=("Left",), engine="v1", field="inpaint_image_url")
MASK = Mask(source="data:f", field="mask_image_url")


def spec(*pictures: Any) -> Spec:
    return Spec(seeds=(1,), steps=4, sampler="euler", schedule="karras", pictures=pictures)


@pytest.mark.parametrize("begun", [START, VARY, UPSCALE])
def test_pictures_of_all_roles_come_back_from_json_as_they_were(begun: Any) -> None:
    given = spec(EDGES, begun, SHADES)
    assert Spec.model_validate_json(given.model_dump_json()) == given
    assert given.beginning == begun


def test_the_start_is_found_among_the_others() -> None:
    assert spec(EDGES, START).start == START
    assert spec(EDGES, SHADES).start is None


def test_there_is_one_start_at_most() -> None:
    for other in (START, VARY, UPSCALE):
        with pytest.raises(ValidationError, match="one start"):
            spec(START, EDGES, other)


def test_a_canvas_and_its_mask_come_back_from_json_as_they_were() -> None:
    given = spec(CANVAS, MASK, EDGES)
    assert Spec.model_validate_json(given.model_dump_json()) == given
    assert (given.canvas, given.beginning, spec(START).canvas) == (CANVAS, None, None)


@pytest.mark.parametrize(
    "pictures", [(CANVAS, CANVAS), (CANVAS, START), (VARY, CANVAS), (MASK,), (CANVAS, MASK, MASK), (START, MASK)]
)
def test_there_is_one_canvas_at_most_with_one_mask_and_no_other_picture_to_begin_from(pictures: Any) -> None:
    with pytest.raises(ValidationError, match="canvas"):
        spec(*pictures)


def test_nothing_but_a_picture_to_enlarge_is_drawn_in_no_steps() -> None:
    plain: dict[str, Any] = {"seeds": (1,), "steps": 0, "sampler": "euler", "schedule": "karras"}
    assert Spec(**plain, pictures=(UPSCALE,)).steps == 0
    for pictures in ((), (VARY,), (START, EDGES)):
        with pytest.raises(ValidationError, match="0 steps"):
            Spec(**plain, pictures=pictures)


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
