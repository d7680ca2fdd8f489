"""What becomes of an image to change: modes, options, prompts, and image prompts beside it where both are mixed."""

from typing import Any

import pytest

from gateway.http.submission import UNKNOWN_SIZE, pixel_steps
from pipelines.spec import Canvas, Mask, Size, Structure
from tests.gateway.endpoints.documented import IMAGE_PROMPT, INPAINT, INPAINT_MODES, ROOT, URL, order

IMAGE, MASK_URL = "https://example.com/room.png", "https://example.com/mask.png"
DEFAULT, DETAIL, MODIFY = INPAINT_MODES
CANVAS = Canvas(source=IMAGE, field="inpaint_image_url")
MASK = Mask(source=MASK_URL, field="mask_image_url")
EDGES = {"type": "PyraCanny", "image_url": URL}
STRUCTURE = Structure(kind="PyraCanny", source=URL, weight=1.0, stop_at=0.5, field="image_prompt_1.image_url")
OPTIONS = {
    "inpaint_disable_initial_latent": True,
    "inpaint_engine": "v2.5",
    "inpaint_strength": 0.7,
    "inpaint_respective_field": 0.2,
    "inpaint_erode_or_dilate": -3.0,
}
OVERRIDDEN = CANVAS.model_copy(
    update={
        "initial_latent": False,
        "engine": "v2.5",
        "engine_field": "inpaint_engine",
        "strength": 0.7,
        "respective_field": 0.2,
        "grow": -3,
    }
)


def canvas(endpoint: str = INPAINT, **fields: Any) -> Canvas | None:
    return order(endpoint, inpaint_image_url=IMAGE, **fields).work.spec.canvas


@pytest.mark.parametrize(
    ("mode", "changes"),
    [
        (DEFAULT, {}),
        (DETAIL, {"engine": "None", "strength": 0.5, "respective_field": 0.0}),
        (MODIFY, {"initial_latent": False, "respective_field": 0.0}),
    ],
)
def test_a_mode_sets_four_values(mode: str, changes: dict[str, Any]) -> None:
    """fooocus-facts 6.1."""
    assert canvas(inpaint_mode=mode) == CANVAS.model_copy(update=changes)


@pytest.mark.parametrize("mode", INPAINT_MODES)
def test_the_options_count_in_every_mode_but_only_when_they_override(mode: str) -> None:
    plain = order(INPAINT, inpaint_image_url=IMAGE, inpaint_mode=mode, styles=[], **OPTIONS)
    assert plain.work.spec.canvas == canvas(inpaint_mode=mode)
    assert plain.inactive == tuple(OPTIONS)
    overriding = order(
        INPAINT, inpaint_image_url=IMAGE, inpaint_mode=mode, styles=[], override_inpaint_options=True, **OPTIONS
    )
    assert overriding.work.spec.canvas == OVERRIDDEN
    assert overriding.inactive == ()


def test_a_strength_of_nothing_is_next_to_nothing() -> None:
    found = canvas(override_inpaint_options=True, inpaint_strength=0)
    assert found is not None
    assert found.strength == 0.01


def test_the_mask_follows_its_image_and_is_inverted_in_any_case() -> None:
    spec = order(INPAINT, inpaint_image_url=IMAGE, mask_image_url=MASK_URL, invert_mask=True).work.spec
    assert spec.pictures == (CANVAS.model_copy(update={"inverted": True}), MASK)
    assert spec.size == Size(width=1024, height=1024)  # for a mask that marks nothing


@pytest.mark.parametrize(("prompt", "whole"), [("a fox", "a hat\na fox"), ("", "a hat")])
@pytest.mark.parametrize("mode", INPAINT_MODES)
def test_the_additional_prompt_is_the_main_one(mode: str, prompt: str, whole: str) -> None:
    asked = {"inpaint_mode": mode, "inpaint_additional_prompt": "a hat", "prompt": prompt}
    assert order(INPAINT, inpaint_image_url=IMAGE, **asked).work.spec.prompt == whole


def test_outpainting_runs_in_full_over_the_whole_image() -> None:
    options = {"override_inpaint_options": True, "inpaint_strength": 0.3, "inpaint_respective_field": 0.1}
    found = canvas(outpaint_selections=["Left", "Top", "Left"], **options)
    assert found is not None
    assert found.outpaint == ("Left", "Top")
    assert (found.acting_strength, found.acting_field) == (1.0, 1.0)


@pytest.mark.parametrize("mode", [DETAIL, MODIFY])
def test_only_the_default_mode_outpaints(mode: str) -> None:
    asked = {"inpaint_image_url": IMAGE, "inpaint_mode": mode, "outpaint_selections": ["Left"], "styles": []}
    found = order(INPAINT, **asked)
    assert found.work.spec.canvas == canvas(inpaint_mode=mode)
    assert found.inactive == ("outpaint_selections",)


def test_inpainting_ignores_image_prompts_that_are_not_mixed_in() -> None:
    """fooocus-facts 5.1."""
    asked = {"inpaint_image_url": IMAGE, "image_prompt_1": EDGES, "styles": []}
    alone, mixed = order(INPAINT, **asked), order(INPAINT, **asked, mixing_image_prompt_and_inpaint=True)
    assert (alone.work.spec.pictures, alone.inactive) == ((CANVAS,), ("image_prompt_1",))
    assert (mixed.work.spec.pictures, mixed.inactive) == ((CANVAS, STRUCTURE), ())


def test_image_prompts_ignore_an_image_to_change_that_is_not_mixed_in() -> None:
    asked = {"inpaint_image_url": IMAGE, "mask_image_url": MASK_URL, "image_prompt_1": EDGES, "styles": []}
    alone, mixed = order(IMAGE_PROMPT, **asked), order(IMAGE_PROMPT, **asked, mixing_image_prompt_and_inpaint=True)
    assert alone.work.spec.pictures == (STRUCTURE,)
    assert alone.inactive == ("inpaint_image_url", "mask_image_url")
    assert (mixed.work.spec.pictures, mixed.inactive) == ((CANVAS, MASK, STRUCTURE), ())


def test_an_image_to_change_goes_before_one_to_vary() -> None:
    asked = {
        "image_prompt_1": EDGES,
        "inpaint_image_url": IMAGE,
        "uov_image_url": URL,
        "uov_method": "Vary (Strong)",
        "mixing_image_prompt_and_inpaint": True,
        "mixing_image_prompt_and_vary_upscale": True,
        "styles": [],
    }
    found = order(IMAGE_PROMPT, **asked)
    assert found.work.spec.pictures == (CANVAS, STRUCTURE)
    assert found.inactive == ("uov_image_url", "uov_method")


@pytest.mark.parametrize("mixing", [False, True])
def test_a_control_image_acts_beside_an_image_to_change_only_where_they_are_mixed(mixing: bool) -> None:
    asked = {"inpaint_image_url": IMAGE, "mask_image_url": MASK_URL, "control_image_url": URL, "styles": []}
    found = order(ROOT, **asked, mixing_image_prompt_and_inpaint=mixing)
    control = Structure(kind="PyraCanny", source=URL, field="control_image_url")
    assert found.work.spec.pictures == (CANVAS, MASK, *((control,) if mixing else ()))
    assert found.inactive == (() if mixing else ("control_image_url",))


def test_a_mask_without_an_image_is_ignored() -> None:
    found = order(ROOT, mask_image_url=MASK_URL, styles=[])
    assert (found.work.spec.pictures, found.inactive) == ((), ("mask_image_url",))


@pytest.mark.parametrize(("aspect_ratio", "pixels"), [("64x64", UNKNOWN_SIZE), ("2048x1024", 2048 * 1024)])
def test_a_budget_is_charged_for_the_part_or_what_is_drawn_without_one(aspect_ratio: str, pixels: int) -> None:
    spec = order(INPAINT, inpaint_image_url=IMAGE, aspect_ratio=aspect_ratio, num_images=2).work.spec
    assert pixel_steps(spec) == pixels * 8 * 2
