"""The table of the six endpoints, and inputs that are no inputs."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.endpoints import ENDPOINTS, Order, app_of
from gateway.errors import ValidationErrors
from tests.gateway.endpoints.documented import FAST


def test_the_six_ids() -> None:
    assert list(ENDPOINTS) == [
        "fal-ai/fooocus",
        "fal-ai/fooocus/image-prompt",
        "fal-ai/fooocus/inpaint",
        "fal-ai/fooocus/upscale-or-vary",
        "fal-ai/fast-fooocus-sdxl",
        "fal-ai/fast-fooocus-sdxl/image-to-image",
    ]
    assert all(endpoint.id == name for name, endpoint in ENDPOINTS.items())


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        ENDPOINTS["more"] = ENDPOINTS["fal-ai/fooocus"]  # type: ignore[index]


def test_the_app_is_the_first_two_segments() -> None:
    assert {endpoint.app for endpoint in ENDPOINTS.values()} == {"fal-ai/fooocus", "fal-ai/fast-fooocus-sdxl"}
    assert app_of("fal-ai/fooocus/inpaint") == "fal-ai/fooocus"
    assert app_of("fal-ai/fooocus") == "fal-ai/fooocus"


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("payload", [None, [], "text", 3, True])
def test_an_input_that_is_no_object_is_refused_clearly(endpoint: str, payload: Any) -> None:
    with pytest.raises(ValidationErrors) as caught:
        ENDPOINTS[endpoint].order(payload, "r", "http://localhost")
    (entry,) = caught.value.body()["detail"]
    assert entry["loc"] == ["body"]
    assert entry["msg"] == "Input should be an object"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60)
@given(data=st.data(), endpoint=st.sampled_from(sorted(ENDPOINTS)))
def test_any_input_is_accepted_or_refused_in_a_form_that_can_be_sent(data: st.DataObject, endpoint: str) -> None:
    fields = st.sampled_from([*ENDPOINTS[endpoint].input.model_fields, "newest"])
    payload = data.draw(st.dictionaries(fields, json_values, max_size=4))
    try:
        found: Order | None = ENDPOINTS[endpoint].order(payload, "r", "http://localhost")
    except ValidationErrors as error:
        found = None
        body = error.body()
        assert all(entry["loc"][0] == "body" and "pydantic" not in entry["url"] for entry in body["detail"])
        json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
    if found is not None:
        found.work.model_dump_json().encode()
        ",".join(found.inactive).encode("ascii")


def test_an_unknown_name_that_is_no_unicode_is_refused_in_a_form_that_can_be_sent() -> None:
    with pytest.raises(ValidationErrors) as caught:
        ENDPOINTS["fal-ai/fooocus"].order({"a\ud800": 1}, "r", "http://localhost")
    json.dumps(caught.value.body(), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("endpoint", "sent", "told"),
    [
        (FAST, {"image_sise": "square"}, "unknown:image_sise (did you mean image_size?)"),
        ("fal-ai/fooocus", {"aspectRatio": "1x1"}, "unknown:aspectRatio (did you mean aspect_ratio?)"),
        (FAST, {"surprise": 1}, "unknown:surprise"),
        (FAST, {"request_id": "x"}, "request_id"),
        (
            FAST,
            {"image_size": {"width": 512, "heigth": 512}},
            "unknown:image_size.heigth (did you mean image_size.height?)",
        ),
        (
            "fal-ai/fooocus",
            {"loras": [{"path": "a", "Scale": 1}]},
            "unknown:loras.0.Scale (did you mean loras.0.scale?)",
        ),
        (FAST, {"image_size.height": 1}, "unknown:image_size.height (did you mean image_size.height?)"),
    ],
)
def test_what_does_not_act_is_told_with_the_nearest_field(endpoint: str, sent: dict[str, object], told: str) -> None:
    order = ENDPOINTS[endpoint].order({"prompt": "a"} | sent, "r", "http://localhost")
    assert ENDPOINTS[endpoint].without_effect(order.inactive) == told


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_field_is_found_by_its_name_in_camel_case(endpoint: str) -> None:
    for field in ENDPOINTS[endpoint].input.model_fields:
        head, *tail = field.split("_")
        name = head + "".join(word.capitalize() for word in tail)
        told = ENDPOINTS[endpoint].without_effect([f"unknown:{name}"])
        assert told == f"unknown:{name} (did you mean {field}?)"
