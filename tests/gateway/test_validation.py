"""pydantic's violations as fal's 422 entries."""

import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from gateway.errors import ModelError, ValidationErrors
from gateway.validation import OneOf, Text, names_at, shown, validated, whole_number


class Inner(BaseModel):
    size: int = 8


class Sample(BaseModel):
    name: Text = ""
    kind: Annotated[Literal["a", "b"], OneOf()] = "a"
    count: int = Field(1, ge=1, le=4)
    above: int = Field(1, gt=0, lt=10)
    side: int = Field(8, multiple_of=8)
    items: list[int] = Field([1], min_length=1, max_length=2)
    word: str = Field("ab", min_length=2, max_length=300)
    flag: bool = False
    inner: Inner | None = None
    needed: str


class Left(BaseModel):
    left: int = 0


class Right(BaseModel):
    right: int = 0


class Tree(BaseModel):
    word: str = ""
    one: Left | None = None
    many: Annotated[list[Left], Field(max_length=4)] = []
    either: Annotated[Left, Field(title="x")] | Right | None = None


def entries(**fields: Any) -> tuple[ModelError, ...]:
    with pytest.raises(ValidationErrors) as caught:
        validated(Sample, {"needed": "x"} | fields)
    return caught.value.errors


@pytest.mark.parametrize(
    ("fields", "type_", "loc", "ctx"),
    [
        ({"kind": "c"}, "one_of", ("kind",), {"expected": ["a", "b"]}),
        ({"count": 0}, "greater_than_equal", ("count",), {"ge": 1}),
        ({"count": 5}, "less_than_equal", ("count",), {"le": 4}),
        ({"above": 0}, "greater_than", ("above",), {"gt": 0}),
        ({"above": 10}, "less_than", ("above",), {"lt": 10}),
        ({"side": 9}, "multiple_of", ("side",), {"multiple_of": 8}),
        ({"items": [1, 2, 3]}, "sequence_too_long", ("items",), {"max_length": 2}),
        ({"items": []}, "sequence_too_short", ("items",), {"min_length": 1}),
        ({"items": "no"}, "list_type", ("items",), None),
        ({"items": [1, "no"]}, "int_parsing", ("items", 1), None),
        ({"word": "a"}, "string_too_short", ("word",), {"min_length": 2}),
        ({"word": "a" * 301}, "string_too_long", ("word",), {"max_length": 300}),
        ({"name": 1}, "string_type", ("name",), None),
        ({"name": None}, "string_type", ("name",), None),
        ({"name": "half \ud83d"}, "string_unicode", ("name",), None),
        ({"flag": "perhaps"}, "bool_parsing", ("flag",), None),
        ({"count": 1.5}, "int_from_float", ("count",), None),
        ({"inner": {"size": "x"}}, "int_parsing", ("inner", "size"), None),
        ({"inner": 5}, "model_type", ("inner",), None),
    ],
)
def test_types_and_contexts_are_fals(
    fields: dict[str, Any], type_: str, loc: tuple[Any, ...], ctx: dict[str, Any] | None
) -> None:
    (entry,) = entries(**fields)
    assert (entry.type, entry.loc, entry.ctx) == (type_, loc, ctx)


def test_a_missing_field_stays_missing() -> None:
    with pytest.raises(ValidationErrors) as caught:
        validated(Sample, {})
    assert caught.value.body()["detail"] == [
        {
            "loc": ["body", "needed"],
            "msg": "Field required",
            "type": "missing",
            "url": "https://docs.fal.ai/errors/#missing",
            "input": {},
        }
    ]


@pytest.mark.parametrize(
    ("sent", "hint"),
    [
        ({"neded": "x"}, " (did you mean needed? the request has neded)"),
        ({"Needed": "x"}, " (did you mean needed? the request has Needed)"),
        ({"need\ud800ed": "x"}, " (did you mean needed? the request has need?ed)"),
        ({"name": "x", "other": "x"}, ""),
        ({"needed" * 100: "x"}, ""),
    ],
)
def test_a_missing_field_is_told_which_unknown_one_may_have_meant_it(sent: dict[str, str], hint: str) -> None:
    with pytest.raises(ValidationErrors) as caught:
        validated(Sample, sent)
    (entry,) = caught.value.errors
    assert (entry.type, entry.loc, entry.msg) == ("missing", ("needed",), f"Field required{hint}")


def test_a_known_field_is_not_taken_for_a_missing_one() -> None:
    class Pair(BaseModel):
        image_url: str
        image_urls: list[str] = []

    with pytest.raises(ValidationErrors) as caught:
        validated(Pair, {"image_urls": []})
    assert caught.value.errors[0].msg == "Field required"


@pytest.mark.parametrize(
    ("loc", "names"),
    [
        ((), {"word", "one", "many", "either"}),
        (("one",), {"left"}),
        (("many", 3), {"left"}),
        (("either", "<left>"), {"left", "right"}),
        (("word",), set()),
        (("nowhere",), set()),
        (("one", "left", "deeper"), set()),
    ],
)
def test_the_fields_at_a_place_are_those_of_what_may_stand_there(loc: tuple[str | int, ...], names: set[str]) -> None:
    assert names_at(Tree, loc) == names


def test_every_violation_is_reported() -> None:
    found = entries(kind="c", count=0, side=9)
    assert [entry.loc for entry in found] == [("kind",), ("count",), ("side",)]


def test_messages_do_not_name_our_classes() -> None:
    (entry,) = entries(inner="text")
    assert entry.msg == "Input should be an object"


def test_the_message_of_a_choice_lists_a_few_values() -> None:
    (entry,) = entries(kind="c")
    assert entry.msg == "Input should be one of: 'a', 'b'"


def test_the_number_of_entries_is_bounded() -> None:
    class Many(BaseModel):
        items: list[int]

    with pytest.raises(ValidationErrors) as caught:
        validated(Many, {"items": ["x"] * 1000})
    assert len(caught.value.errors) == 32


def test_a_valid_input_is_returned() -> None:
    assert validated(Sample, {"needed": "x", "count": 2}).count == 2


@pytest.mark.parametrize("value", [None, True, 3, -1.5, "text", [1, "a"], {"a": [None]}])
def test_small_values_are_echoed_as_they_are(value: Any) -> None:
    assert shown(value) == value


def test_a_long_text_is_cut() -> None:
    assert shown("a" * 200) == "a" * 200
    assert shown("a" * 201) == "a" * 199 + "…"


@pytest.mark.parametrize("value", ["data:image/png;base64,AAAA", "data:image/png;base64," + "A" * 10**6])
def test_media_are_not_echoed(value: str) -> None:
    assert shown(value) == "data:image/png;base64,…"


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        [float("nan")],
        10**400,
        list(range(17)),
        {str(n): n for n in range(17)},
        [[[[1]]]],
        object(),
    ],
)
def test_what_is_huge_or_not_json_is_dropped(value: Any) -> None:
    assert shown(value) is None


def test_what_is_echoed_can_be_sent() -> None:
    text = shown({"a\ud800": "b\udfff"})
    json.dumps(text, ensure_ascii=False, allow_nan=False).encode()
    assert text == {"a?": "b?"}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *[("1", 1), ("007", 7), ("100", 100), ("0", None), ("101", None), ("1000", None), ("", None), ("-1", None)],
        *[("1.0", None), (" 1", None), ("+1", None), ("١", None), ("²", None), ("9" * 5000, None)],
    ],
)
def test_a_whole_number_is_digits_within_bounds(text: str, number: int | None) -> None:
    assert whole_number(text, 1, 100) == number
