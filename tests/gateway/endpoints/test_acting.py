"""Fields that do not act are named, and so are those that nobody knows; every default may be sent."""

from itertools import permutations
from typing import Any

import pytest

from tests.gateway.endpoints.documented import (
    DEFAULTS,
    FAST,
    FAST_I2I,
    FOUR,
    IMAGE_PROMPT,
    INPAINT,
    ROOT,
    TWO,
    UOV,
    order,
    refused,
)


@pytest.mark.parametrize(("endpoint", "field"), [(INPAINT, "inpaint_image_url"), (UOV, "uov_image_url")])
def test_an_endpoint_needs_its_image(endpoint: str, field: str) -> None:
    (entry,) = refused(endpoint, **{field: ""})
    assert (entry.type, entry.loc) == ("string_too_short", (field,))


@pytest.mark.parametrize("styles", list(permutations(["Fooocus Enhance", "Fooocus V2", "Fooocus Sharp"])))
def test_default_styles_are_accepted_in_any_order(styles: tuple[str, ...]) -> None:
    assert order(ROOT, styles=list(styles)).inactive == ()


def test_repeated_styles_are_the_same_set() -> None:
    assert order(ROOT, styles=["Fooocus Sharp", "Fooocus V2", "Fooocus Enhance", "Fooocus V2"]).inactive == ()


@pytest.mark.parametrize("endpoint", [*FOUR, *TWO])
def test_every_default_is_accepted_when_it_is_sent(endpoint: str) -> None:
    order(endpoint, **DEFAULTS[endpoint])


@pytest.mark.parametrize(
    ("endpoint", "fields", "inactive"),
    [
        (ROOT, {}, ()),
        (ROOT, {"styles": []}, ()),
        (ROOT, {"styles": ["SAI Anime"]}, ()),
        (ROOT, {"styles": ["SAI Anime", "Fooocus V2"]}, ()),
        (IMAGE_PROMPT, {}, ()),
        (FAST, {}, ()),
        (FAST_I2I, {}, ()),
        (FAST, {"request_id": "abc"}, ("request_id",)),
    ],
)
def test_what_does_not_act_is_named(endpoint: str, fields: dict[str, Any], inactive: tuple[str, ...]) -> None:
    assert order(endpoint, **fields).inactive == inactive


def test_unknown_fields_are_accepted_and_named() -> None:
    found = order(ROOT, styles=[], newest=1, loras=[{"path": "a", "blur": 2}]).inactive
    assert found == ("unknown:newest", "unknown:loras.0.blur")


def test_names_from_clients_fit_into_a_header() -> None:
    found = order(ROOT, styles=[], **{"a\r\nset-cookie: b,c": 1, "é☃": 2, "l" * 500: 3}).inactive
    assert found == ("unknown:a??set-cookie:?b?c", "unknown:??", "unknown:" + "l" * 64)


def test_a_flood_of_unknown_fields_is_counted() -> None:
    found = order(ROOT, styles=[], **{f"field_{n}": n for n in range(1000)}).inactive
    assert len(found) == 17
    assert found[-1] == "unknown:and 984 more"


def test_a_field_of_another_endpoint_is_unknown() -> None:
    assert order(ROOT, styles=[], strength=0.5).inactive == ("unknown:strength",)
