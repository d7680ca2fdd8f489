"""OpenAI's parameters as fields of the endpoints, and what is refused of them."""

from collections.abc import Mapping
from typing import Any

import pytest
from openai.types.image_edit_params import ImageEditParamsBase
from openai.types.image_generate_params import ImageGenerateParamsBase

from gateway.endpoints import ENDPOINTS
from gateway.errors import PlatformError, ValidationErrors
from gateway.openai.translation import PLACES, QUALITIES, WITHOUT_EFFECT, Asked, translated
from pipelines.spec import Canvas, Mask, Reference, Start, Structure, Vary
from tests.gateway.fakes import FAST
from tests.gateway.openai.conftest import RED, with_hole
from tests.pages import page

FOOOCUS = "fal-ai/fooocus"
BESIDE = {"complexity", "frame_count", "frame_duration_ms", "svg", "markup"}  # of models that draw other things
FILES = {"image", "mask"}


def payload(model: str = FOOOCUS, images: int = 0, mask: bytes | None = None, **sent: Any) -> dict[str, Any]:
    found = translated({"model": model, "prompt": "a cube", **sent}, [RED] * images, mask, 10_000)
    return {name: value for name, value in found.payload.items() if name != "prompt"}


@pytest.mark.parametrize(
    ("model", "sent", "expected"),
    [
        (FOOOCUS, {"n": 2}, {"num_images": 2}),
        (FOOOCUS, {"stream": "false"}, {}),
        (FOOOCUS, {"n": None, "size": "auto", "quality": "auto", "background": "opaque", "stream": False}, {}),
        (FOOOCUS, {"size": "1536x1024"}, {"aspect_ratio": "1536x1024"}),
        (FAST, {"size": "1536X1024"}, {"image_size": {"width": 1536, "height": 1024}}),
        *((FOOOCUS, {"quality": quality}, {"performance": mode}) for quality, mode in QUALITIES.items()),
        (FOOOCUS, {"output_format": "webp"}, {"output_format": "webp"}),
        (FAST, {"output_format": "png"}, {"format": "png"}),
        (FOOOCUS, {"seed": 7, "styles": ["Fooocus Sharp"]}, {"seed": 7, "styles": ["Fooocus Sharp"]}),
    ],
)
def test_a_parameter_is_a_field(model: str, sent: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    assert payload(model, **sent) == expected


def test_what_has_no_effect_is_named() -> None:
    sent = {"user": "u", "style": "vivid", "moderation": "low", "output_compression": 100, "quality": "high"}
    found = translated({"model": FAST, "prompt": "a cube", **sent})
    assert set(found.inactive) == sent.keys()
    assert found.payload == {"prompt": "a cube"}


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"size": "large"}, "size"),
        ({"quality": "xhigh"}, "quality"),
        ({"background": "transparent"}, "background"),
        ({"stream": True}, "stream"),
        ({"partial_images": 2}, "partial_images"),
        ({"output_format": "gif"}, "output_format"),
        ({"response_format": "png"}, "response_format"),
        ({"frame_count": 9}, "frame_count"),
        ({"n": 2, "num_images": 3}, "num_images"),
        ({"model": None}, "model"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(sent: Mapping[str, Any], field: str) -> None:
    with pytest.raises(ValidationErrors) as refused:
        payload(**sent)
    assert [error.loc for error in refused.value.errors] == [(field,)]


def test_an_unknown_parameter_is_told_the_nearest() -> None:
    with pytest.raises(ValidationErrors, match="did you mean negative_prompt"):
        payload(negativ_prompt="blue")


def test_an_unknown_model_is_told_the_nearest() -> None:
    with pytest.raises(PlatformError, match="did you mean 'fal-ai/fooocus'") as refused:
        payload("fal-ai/foocus")
    assert (refused.value.status, refused.value.error_type) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("model", "images", "mask", "roles"),
    [
        (FOOOCUS, 1, with_hole(), [Canvas, Mask]),
        (FOOOCUS, 1, None, [Structure]),
        ("fal-ai/fooocus/inpaint", 1, with_hole(), [Canvas, Mask]),
        ("fal-ai/fooocus/image-prompt", 3, None, [Reference] * 3),
        ("fal-ai/fooocus/upscale-or-vary", 1, None, [Vary]),
        ("fal-ai/fast-fooocus-sdxl/image-to-image", 1, None, [Start]),
    ],
)
def test_the_files_of_an_edit_have_their_roles(model: str, images: int, mask: bytes | None, roles: list[type]) -> None:
    order = ENDPOINTS[model].order({"prompt": "a cube", **payload(model, images, mask)}, "id", "http://here")
    assert [type(picture) for picture in order.work.spec.pictures] == roles


def test_every_endpoint_that_takes_a_picture_has_a_place_for_the_files_of_an_edit() -> None:
    assert {*PLACES} == {*ENDPOINTS} - {FAST}


def test_an_image_that_is_transparent_is_its_own_mask() -> None:
    found = translated({"model": FOOOCUS, "prompt": "a cube"}, [with_hole()], None, 10_000)
    assert {"inpaint_image_url", "mask_image_url"} <= found.payload.keys()


@pytest.mark.parametrize(
    ("model", "images", "mask", "field"),
    [
        (FAST, 1, None, "model"),
        (FOOOCUS, 2, None, "image"),
        ("fal-ai/fooocus/image-prompt", 5, None, "image"),
        ("fal-ai/fooocus/image-prompt", 1, with_hole(), "mask"),
        ("fal-ai/fooocus/inpaint", 1, None, "mask"),
        ("fal-ai/fooocus/inpaint", 1, with_hole(None), "mask"),
    ],
)
def test_files_without_a_place_are_refused(model: str, images: int, mask: bytes | None, field: str) -> None:
    with pytest.raises(ValidationErrors) as refused:
        payload(model, images, mask)
    assert [error.loc for error in refused.value.errors] == [(field,)]


def test_every_parameter_of_the_published_client_is_taken_or_documented_as_refused() -> None:
    published = {*ImageGenerateParamsBase.__annotations__, *ImageEditParamsBase.__annotations__, "stream"}
    assert published == {*Asked.model_fields} | FILES | BESIDE
    assert {*WITHOUT_EFFECT} < {*Asked.model_fields}


@pytest.mark.parametrize("field", sorted({*Asked.model_fields, *FILES, *BESIDE}))
def test_the_page_has_every_parameter(field: str) -> None:
    table = page("docs/other-front-ends.md").split("\n### Parameters\n")[1].split("\n### ")[0]
    assert f"`{field}`" in table
