"""No field of any endpoint is missing from its form. The module that makes the fields is run by node."""

from typing import Any

import pytest

from gateway.endpoints import ENDPOINTS
from gateway.http.openapi import endpoint_document
from tests.gateway.playground.by_node import by_node

KINDS = {
    *("text", "line", "switch", "choice", "range", "number", "whole", "choices"),
    *("words", "image", "size", "aspect", "group", "list"),
}


def form(endpoint_id: str) -> Any:
    document = endpoint_document(ENDPOINTS[endpoint_id], "http://127.0.0.1:8000/queue", False)
    return by_node("fields.mjs", document, endpoint_id)


@pytest.mark.parametrize("endpoint_id", [*ENDPOINTS])
def test_every_field_has_its_place(endpoint_id: str) -> None:
    model = ENDPOINTS[endpoint_id].input
    made = form(endpoint_id)
    assert [*made["kinds"]] == [*model.model_fields]
    assert {field["kind"] for field in made["kinds"].values()} <= KINDS
    assert {name for name, field in made["kinds"].items() if field["required"]} == {
        name for name, field in model.model_fields.items() if field.is_required()
    }
    placed = [name for _, names in made["shown"] for name in names]
    assert sorted(placed) == sorted(model.model_fields)
    # what must be given is seen without opening anything
    simple = made["shown"][0][1]
    assert {"prompt", *(name for name, field in made["kinds"].items() if field["required"])} <= {*simple}
    assert simple[0] == "prompt"


def test_parts_of_fields_are_fields_too() -> None:
    kinds = form("fal-ai/fooocus/inpaint")["kinds"]
    assert {name: part["kind"] for name, part in kinds["image_prompt_1"]["fields"].items()} == {
        "type": "choice",
        "image_url": "image",
        "stop_at": "range",
        "weight": "range",
    }
    assert [*kinds["loras"]["fields"]] == ["path", "scale", "force"]
    assert kinds["seed"]["kind"] == "whole"
    assert kinds["styles"]["kind"] == "choices"


@pytest.mark.parametrize("endpoint_id", ["fal-ai/fast-fooocus-sdxl", "fal-ai/fast-fooocus-sdxl/image-to-image"])
def test_a_size_is_a_preset_or_two_sides(endpoint_id: str) -> None:
    size = form(endpoint_id)["kinds"]["image_size"]
    assert (size["kind"], [*size["fields"]]) == ("size", ["width", "height"])
