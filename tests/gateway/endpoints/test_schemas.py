"""Every field, default, range and enum of the six input schemas against the documented ones."""

from typing import Any

import pytest

from gateway.endpoints import ENDPOINTS
from gateway.errors import ValidationErrors
from tests.gateway.endpoints.documented import (
    DEFAULTS,
    ENUMS,
    FAST_I2I,
    FOUR,
    IMAGE_PROMPT,
    IMAGE_PROMPT_TYPES,
    INPAINT,
    LEAST,
    RANGES,
    REQUIRED,
    ROOT,
    TWO,
    UOV,
    accepted_by_schema,
    order,
    refused,
)

ranges = [(endpoint, *rule) for endpoints, *rule in RANGES for endpoint in endpoints]
enums = [(endpoint, *rule) for endpoints, *rule in ENUMS for endpoint in endpoints]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_fields_are_the_documented_ones(endpoint: str) -> None:
    assert set(ENDPOINTS[endpoint].input.model_fields) == set(DEFAULTS[endpoint]) | REQUIRED[endpoint]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_defaults_are_the_documented_ones(endpoint: str) -> None:
    found = accepted_by_schema(endpoint).model_dump()
    assert {name: found[name] for name in DEFAULTS[endpoint]} == DEFAULTS[endpoint]


@pytest.mark.parametrize(("endpoint", "field"), [(e, f) for e, fields in REQUIRED.items() for f in sorted(fields)])
def test_required_fields_are_missed_by_name(endpoint: str, field: str) -> None:
    payload = {name: value for name, value in LEAST[endpoint].items() if name != field}
    with pytest.raises(ValidationErrors, match="Field required") as caught:
        ENDPOINTS[endpoint].order(payload, "r", "http://localhost")
    (entry,) = caught.value.body()["detail"]
    assert (entry["type"], entry["loc"]) == ("missing", ["body", field])


@pytest.mark.parametrize(("endpoint", "field", "least", "greatest"), ranges)
def test_ranges_hold_on_both_sides(endpoint: str, field: str, least: float, greatest: float) -> None:
    for value in (least, greatest):
        assert getattr(accepted_by_schema(endpoint, **{field: value}), field) == value
    whole = isinstance(getattr(accepted_by_schema(endpoint), field), int)
    step = 1 if whole else 0.001
    (below,) = refused(endpoint, **{field: least - step})
    assert (below.type, below.loc, below.ctx) == ("greater_than_equal", (field,), {"ge": least})
    (above,) = refused(endpoint, **{field: greatest + step})
    assert (above.type, above.loc, above.ctx) == ("less_than_equal", (field,), {"le": greatest})


@pytest.mark.parametrize(("endpoint", "field", "values"), enums)
def test_enums_hold_exactly_the_documented_values(endpoint: str, field: str, values: list[str]) -> None:
    for value in values:
        assert getattr(accepted_by_schema(endpoint, **{field: value}), field) == value
    wrongs: tuple[Any, ...] = ("nonsense", 7, [], {})
    for wrong in wrongs:
        (entry,) = refused(endpoint, **{field: wrong})
        assert (entry.type, entry.loc, entry.ctx) == ("one_of", (field,), {"expected": values})


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_field_that_is_null_is_absent(endpoint: str) -> None:
    for field in set(ENDPOINTS[endpoint].input.model_fields) - LEAST[endpoint].keys():
        assert accepted_by_schema(endpoint, **{field: None}) == accepted_by_schema(endpoint)
    for field in LEAST[endpoint]:
        assert [(entry.type, entry.loc) for entry in refused(endpoint, **{field: None})] == [("missing", (field,))]


@pytest.mark.parametrize("endpoint", FOUR)
def test_all_277_styles_are_known_and_no_other(endpoint: str) -> None:
    styles = ENDPOINTS[endpoint].input.model_json_schema()["properties"]["styles"]["items"]["enum"]
    assert len(styles) == len(set(styles)) == 277
    assert [styles[0], styles[7], styles[8], styles[-1]] == [
        "Fooocus V2",
        "Fooocus Cinematic",
        "SAI 3D Model",
        "Mk Shepard Fairey Style",
    ]
    # the one name without a prefix sits inside the Mk run
    place = styles.index("Pebble Art")
    assert (styles[place - 1], styles[place + 1]) == ("Mk Mokume Gane", "Mk Palekh")
    assert accepted_by_schema(endpoint, styles=styles).styles == styles
    (entry,) = refused(endpoint, styles=["Fooocus V2", "Fooocus Pony"])
    assert (entry.type, entry.loc, entry.input) == ("one_of", ("styles", 1), "Fooocus Pony")
    assert entry.ctx == {"expected": styles}


@pytest.mark.parametrize(("endpoint", "slot"), [(IMAGE_PROMPT, 1), (IMAGE_PROMPT, 4), (INPAINT, 1), (UOV, 3)])
def test_image_prompts_have_the_documented_fields(endpoint: str, slot: int) -> None:
    name = f"image_prompt_{slot}"
    found = getattr(accepted_by_schema(endpoint, **{name: {}}), name)
    assert found.model_dump() == {"type": "ImagePrompt", "image_url": None, "stop_at": 0.5, "weight": 1.0}
    for kind in IMAGE_PROMPT_TYPES:
        assert getattr(accepted_by_schema(endpoint, **{name: {"type": kind}}), name).type == kind
    for wrong, type_, loc in [
        ({"type": "Canny"}, "one_of", (name, "type")),
        ({"stop_at": -0.01}, "greater_than_equal", (name, "stop_at")),
        ({"stop_at": 1.01}, "less_than_equal", (name, "stop_at")),
        ({"weight": -0.01}, "greater_than_equal", (name, "weight")),
        ({"weight": 2.01}, "less_than_equal", (name, "weight")),
        ("not an object", "model_type", (name,)),
    ]:
        (entry,) = refused(endpoint, **{name: wrong})
        assert (entry.type, entry.loc) == (type_, loc)


@pytest.mark.parametrize("endpoint", FOUR)
def test_up_to_five_loras(endpoint: str) -> None:
    lora = {"path": "a.safetensors"}
    five = accepted_by_schema(endpoint, loras=[lora] * 5).loras
    assert [entry.model_dump() for entry in five] == [{"path": "a.safetensors", "scale": 1.0, "force": False}] * 5
    (entry,) = refused(endpoint, loras=[lora] * 6)
    assert (entry.type, entry.loc, entry.ctx) == ("sequence_too_long", ("loras",), {"max_length": 5})
    (entry,) = refused(endpoint, loras=[lora, {"scale": 1}])
    assert (entry.type, entry.loc) == ("missing", ("loras", 1, "path"))


@pytest.mark.parametrize("endpoint", [IMAGE_PROMPT, INPAINT])
def test_outpaint_sides(endpoint: str) -> None:
    sides = ["Left", "Right", "Top", "Bottom"]
    assert accepted_by_schema(endpoint, outpaint_selections=sides).outpaint_selections == sides
    (entry,) = refused(endpoint, outpaint_selections=["left"])
    assert (entry.type, entry.loc, entry.ctx) == ("one_of", ("outpaint_selections", 0), {"expected": sides})


@pytest.mark.parametrize("endpoint", TWO)
def test_embeddings_have_the_documented_fields(endpoint: str) -> None:
    (found,) = accepted_by_schema(endpoint, embeddings=[{"path": "a"}]).embeddings
    assert found.model_dump() == {"path": "a", "tokens": ["<s0>", "<s1>"]}
    (entry,) = refused(endpoint, embeddings=[{}])
    assert (entry.type, entry.loc) == ("missing", ("embeddings", 0, "path"))
    (entry,) = refused(endpoint, embeddings=[{"path": "a", "tokens": []}])
    assert (entry.type, entry.loc) == ("sequence_too_short", ("embeddings", 0, "tokens"))
    (entry,) = refused(endpoint, embeddings=[{"path": "a", "tokens": ["b", ""]}])
    assert (entry.type, entry.loc) == ("string_too_short", ("embeddings", 0, "tokens", 1))
    accepted_by_schema(endpoint, embeddings=[{"path": "a", "tokens": ["b" * 100]}])
    (entry,) = refused(endpoint, embeddings=[{"path": "a", "tokens": ["b" * 101]}])
    assert (entry.type, entry.loc) == ("string_too_long", ("embeddings", 0, "tokens", 0))


@pytest.mark.parametrize(
    ("endpoint", "field"),
    [(e, f) for e, fields in DEFAULTS.items() for f, default in fields.items() if isinstance(default, int | float)],
)
def test_numbers_and_flags_refuse_text(endpoint: str, field: str) -> None:
    (entry,) = refused(endpoint, **{field: "many"})
    assert entry.loc == (field,)
    assert entry.type in {"int_parsing", "float_parsing", "bool_parsing"}


@pytest.mark.parametrize(
    ("endpoint", "field"), [(ROOT, "guidance_scale"), (ROOT, "control_image_weight"), (FAST_I2I, "guidance_rescale")]
)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), "nan"])
def test_numbers_are_finite(endpoint: str, field: str, value: Any) -> None:
    (entry,) = refused(endpoint, **{field: value})
    assert (entry.type, entry.loc) == ("finite_number", (field,))


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_field_of_the_json_schema_is_described(endpoint: str) -> None:
    schema = ENDPOINTS[endpoint].input.model_json_schema()
    for model in (schema, *schema.get("$defs", {}).values()):
        assert model["description"]
        for name, field in model["properties"].items():
            assert field.get("description"), name
    assert set(schema.get("required", ())) == REQUIRED[endpoint]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_the_json_schema_tells_the_defaults(endpoint: str) -> None:
    properties = ENDPOINTS[endpoint].input.model_json_schema()["properties"]
    assert {name: properties[name]["default"] for name in DEFAULTS[endpoint]} == DEFAULTS[endpoint]


@pytest.mark.parametrize("endpoint", [*FOUR, *TWO])
def test_the_least_input_is_drawn(endpoint: str) -> None:
    assert order(endpoint).work.endpoint == endpoint


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_a_prompt_has_a_bounded_length(field: str) -> None:
    with pytest.raises(ValidationErrors) as fault:
        ENDPOINTS["fal-ai/fooocus"].order({field: "a" * 10_001}, "id", "http://here")
    entry = fault.value.body()["detail"][0]
    assert (entry["loc"], entry["type"]) == (["body", field], "string_too_long")
