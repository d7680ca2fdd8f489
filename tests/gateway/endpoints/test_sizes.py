"""Sizes as texts, presets and objects."""

from typing import Any

import pytest

from pipelines.spec import Size
from tests.gateway.endpoints.documented import FAST, FAST_I2I, FOUR, ROOT, TWO, accepted_by_schema, order, refused


@pytest.mark.parametrize("text", ["1152x896", "1152*896", "1152×896", "1152X896", " 1152 x 896 "])
def test_a_ratio_is_two_numbers_and_a_sign_of_multiplication(text: str) -> None:
    assert order(ROOT, aspect_ratio=text).work.spec.size == Size(width=1152, height=896)


@pytest.mark.parametrize("text", ["64x64", "2048x2048", "64x2048", "1728x576", "1000x1016"])
def test_sides_within_the_limits_are_drawn(text: str) -> None:
    width, height = map(int, text.split("x"))
    assert order(ROOT, aspect_ratio=text).work.spec.size == Size(width=width, height=height)


@pytest.mark.parametrize(
    ("text", "type_", "ctx"),
    [
        ("1025x1024", "multiple_of", {"multiple_of": 8}),
        ("1024x1028", "multiple_of", {"multiple_of": 8}),
        ("56x1024", "greater_than_equal", {"ge": 64}),
        ("1024x0", "greater_than_equal", {"ge": 64}),
        ("1024x2056", "less_than_equal", {"le": 2048}),
        ("999999x64", "less_than_equal", {"le": 2048}),
        ("", "value_error", None),
        ("1024", "value_error", None),
        ("16:9", "value_error", None),
        ("1024x", "value_error", None),
        ("-64x64", "value_error", None),
        ("1024.0x1024", "value_error", None),
        ("1024x1024x8", "value_error", None),
        ("x".join(["9" * 5000] * 2), "value_error", None),
        ("١٠٢٤x١٠٢٤", "value_error", None),
    ],
)
def test_other_ratios_are_refused(text: str, type_: str, ctx: dict[str, Any] | None) -> None:
    (entry,) = refused(ROOT, aspect_ratio=text)
    assert (entry.type, entry.loc, entry.ctx) == (type_, ("aspect_ratio",), ctx)


@pytest.mark.parametrize("endpoint", FOUR)
def test_all_four_check_the_ratio(endpoint: str) -> None:
    assert accepted_by_schema(endpoint, aspect_ratio="1152x896").aspect_ratio == "1152x896"
    assert [entry.loc for entry in refused(endpoint, aspect_ratio="1x1")] == [("aspect_ratio",)]


@pytest.mark.parametrize("endpoint", TWO)
@pytest.mark.parametrize(
    ("asked", "width", "height"),
    [
        ("square_hd", 1024, 1024),
        ("square", 512, 512),
        ("portrait_4_3", 768, 1024),
        ("portrait_16_9", 576, 1024),
        ("landscape_4_3", 1024, 768),
        ("landscape_16_9", 1024, 576),
        ({"width": 64, "height": 2048}, 64, 2048),
        ({"width": 640}, 640, 512),
        ({"width": 640, "height": None}, 640, 512),
        ({"width": 1080, "height": 1350}, 1080, 1352),
        ({"width": 100, "height": 100}, 104, 104),
        ({"width": 65, "height": 2047}, 64, 2048),
        ({}, 512, 512),
    ],
)
def test_image_size_is_a_preset_or_an_object(endpoint: str, asked: Any, width: int, height: int) -> None:
    assert order(endpoint, image_size=asked).work.spec.size == Size(width=width, height=height)


@pytest.mark.parametrize("endpoint", TWO)
@pytest.mark.parametrize(
    ("asked", "type_", "loc"),
    [
        ("huge", "one_of", ("image_size",)),
        (512, "one_of", ("image_size",)),
        ([512, 512], "one_of", ("image_size",)),
        ({"width": 512, "height": 56}, "greater_than_equal", ("image_size", "height")),
        ({"width": 512, "height": 2056}, "less_than_equal", ("image_size", "height")),
        ({"width": "wide"}, "int_parsing", ("image_size", "width")),
        ({"width": 63}, "greater_than_equal", ("image_size", "width")),
        ({"height": 14142}, "less_than_equal", ("image_size", "height")),
    ],
)
def test_other_image_sizes_are_refused_at_the_field(
    endpoint: str, asked: Any, type_: str, loc: tuple[str, ...]
) -> None:
    (entry,) = refused(endpoint, image_size=asked)
    assert (entry.type, entry.loc) == (type_, loc)


def test_both_sides_of_an_object_are_reported() -> None:
    found = refused(FAST, image_size={"width": 1, "height": 1})
    assert [entry.loc for entry in found] == [("image_size", "width"), ("image_size", "height")]


def test_only_image_to_image_takes_the_size_from_the_picture() -> None:
    assert order(FAST_I2I, image_size=None).work.spec.size is None
    assert order(FAST, image_size=None).work.spec.size == Size(width=1024, height=1024)
