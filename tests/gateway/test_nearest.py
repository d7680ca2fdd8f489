"""The nearest of known names, or none."""

import pytest

from gateway.validation import MAX_SPELT, nearest

KNOWN = ("prompt", "negative_prompt", "image_size", "num_images", "aspect_ratio")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("promt", ["prompt"]),
        ("imageSize", ["image_size"]),
        ("NUM-IMAGES", ["num_images"]),
        ("aspect ratio", ["aspect_ratio"]),
        ("zzzz", []),
        ("", []),
        ("_", []),
    ],
)
def test_case_and_what_stands_between_words_make_no_difference(given: str, meant: list[str]) -> None:
    assert nearest(given, KNOWN) == meant


def test_the_nearest_comes_first_and_so_many_are_told_as_are_asked_for() -> None:
    assert nearest("negative_promt", ["negative_prompts", "negative_prompt", "prompt"], 2) == [
        "negative_prompt",
        "negative_prompts",
    ]


def test_how_near_is_near_enough_is_the_callers_to_say() -> None:
    assert nearest("image_url", ["inpaint_image_url"]) == []
    assert nearest("image_url", ["inpaint_image_url"], near=0.6) == ["inpaint_image_url"]


def test_nothing_is_looked_for_beside_what_is_too_long() -> None:
    assert nearest("a" * (MAX_SPELT + 1), ["a" * MAX_SPELT]) == []
    assert nearest("a" * MAX_SPELT, ["a" * (MAX_SPELT + 1)]) == []
