"""From a request to the work: what is drawn, and how it is handed over."""

from typing import Any

import pytest

from gateway.work import Delivery
from pipelines.spec import (
    Embedding,
    Guidance,
    Lora,
    Reference,
    ReferenceKind,
    Refiner,
    Size,
    SizeEmphasis,
    Spec,
    Start,
    Structure,
)
from tests.gateway.endpoints.documented import (
    FAST,
    FAST_I2I,
    IMAGE_PROMPT,
    OFFSET,
    ROOT,
    TWO,
    URL,
    order,
    refused,
)

LCM = Lora(source="sdxl_lcm_lora.safetensors", scale=1.0, performance=True)
LIGHTNING = Lora(source="sdxl_lightning_4step_lora.safetensors", scale=1.0, performance=True, field="performance")
REFINER = Refiner(switch=0.8, method="separate", field="enable_refiner")
CHOSEN = LCM.model_copy(update={"field": "performance"})


def test_the_root_endpoint_with_its_defaults() -> None:
    assert order(ROOT, prompt="a fox", seed=1).work.spec == Spec(
        prompt="a fox",
        negative_prompt="",
        styles=("Fooocus Enhance", "Fooocus Sharp"),
        size=Size(width=1024, height=1024),
        seeds=(1,),
        steps=8,
        sampler="lcm",
        schedule="lcm",
        guidance=Guidance(scale=1.0),
        loras=(Lora(source=OFFSET, scale=0.1), CHOSEN),
        pictures=(),
        expand_prompt=True,
        check_safety=True,
    )


def test_lightning_takes_four_euler_steps_with_its_lora() -> None:
    spec = order(ROOT, performance="Lightning").work.spec
    assert (spec.steps, spec.sampler, spec.schedule, spec.guidance.scale) == (4, "euler", "sgm_uniform", 1.0)
    assert spec.loras[-1] == LIGHTNING


def test_a_mode_forces_its_guidance_as_in_fooocus() -> None:
    asked = {"guidance_scale": 12, "sharpness": 20, "refiner_switch": 0.3, "negative_prompt": "blur"}
    spec = order(ROOT, **asked).work.spec
    assert spec.guidance == Guidance(scale=1.0)
    assert spec.negative_prompt == "blur"


@pytest.mark.parametrize(("performance", "steps"), [("Speed", 30), ("Quality", 60)])
def test_speed_and_quality_are_guided_as_asked_and_take_no_lora(performance: str, steps: int) -> None:
    spec = order(ROOT, performance=performance, guidance_scale=9, sharpness=5, loras=[]).work.spec
    assert (spec.steps, spec.sampler, spec.schedule) == (steps, "dpmpp_2m_sde", "karras")
    assert spec.loras == ()
    sizes = SizeEmphasis(positive=1.5, negative=0.8, end=0.3)
    assert spec.guidance == Guidance(scale=9, sharpness=5, mimicked=7, sizes=sizes)


@pytest.mark.parametrize("performance", ["Extreme Speed", "Lightning", "Speed", "Quality"])
def test_a_refiner_takes_over_where_the_mode_does_not_forbid_it(performance: str) -> None:
    asked = {"performance": performance, "refiner_switch": 0.3}
    named = order(ROOT, **asked, refiner_model="realisticVisionV60B1_v51VAE.safetensors").work.spec.refiner
    forced = performance in ("Extreme Speed", "Lightning")
    assert named == (None if forced else Refiner(switch=0.3, field="refiner_model"))
    assert order(ROOT, **asked).work.spec.refiner is None


def test_the_fast_endpoint_is_refined_unless_it_says_no() -> None:
    for endpoint, given in ((FAST, {}), (FAST_I2I, {"image_url": "https://a.example/a.png"})):
        assert order(endpoint, **given).work.spec.refiner == REFINER
        assert order(endpoint, **given, enable_refiner=False).work.spec.refiner is None


def test_the_fast_endpoint_rescales_guidance_as_asked() -> None:
    assert order(FAST, guidance_rescale=0.7).work.spec.guidance == Guidance(scale=2.0, rescale=0.7)


def test_loras_of_the_client_come_first_and_know_their_field() -> None:
    loras = [{"path": "a.safetensors", "scale": 0.5}, {"path": URL, "scale": -1, "force": True}]
    assert order(ROOT, loras=loras).work.spec.loras == (
        Lora(source="a.safetensors", scale=0.5, field="loras.0.path"),
        Lora(source=URL, scale=-1.0, field="loras.1.path", force=True),
        CHOSEN,
    )


@pytest.mark.parametrize("endpoint", TWO)
def test_embeddings_know_their_tokens_and_their_field(endpoint: str) -> None:
    asked = {"prompt": "a <s0>", "image_url": URL, "embeddings": [{"path": "a"}, {"path": URL, "tokens": ["<x>"]}]}
    given = {name: value for name, value in asked.items() if endpoint != FAST or name != "image_url"}
    assert order(endpoint, **given).work.spec.embeddings == (
        Embedding(source="a", tokens=("<s0>", "<s1>"), field="embeddings.0.path"),
        Embedding(source=URL, tokens=("<x>",), field="embeddings.1.path"),
    )


def test_an_empty_list_of_loras_leaves_the_modes_alone() -> None:
    assert order(ROOT, loras=[]).work.spec.loras == (CHOSEN,)


def test_a_control_image_of_the_root_endpoint() -> None:
    asked = {"control_image_url": URL, "control_image_weight": 0.7, "control_image_stop_at": 0.4}
    assert order(ROOT, **asked).work.spec.pictures == (
        Structure(kind="PyraCanny", source=URL, weight=0.7, stop_at=0.4, field="control_image_url"),
    )


def test_the_type_of_a_control_image_is_its_kind_of_structure() -> None:
    structure = Structure(kind="CPDS", source=URL, field="control_image_url")
    assert order(ROOT, control_image_url=URL, control_type="CPDS").work.spec.pictures == (structure,)


@pytest.mark.parametrize("kind", ["ImagePrompt", "FaceSwap"])
def test_a_control_image_may_show_what_things_look_like(kind: ReferenceKind) -> None:
    look = Reference(kind=kind, source=URL, weight=0.5, stop_at=0.9, field="control_image_url")
    how = {"control_type": kind, "control_image_weight": 0.5, "control_image_stop_at": 0.9}
    assert order(ROOT, control_image_url=URL, **how).work.spec.pictures == (look,)


def test_an_image_prompt_of_no_type_is_one_of_looks() -> None:
    look = Reference(kind="ImagePrompt", source=URL, weight=1.0, stop_at=0.5, field="image_prompt_1.image_url")
    assert order(IMAGE_PROMPT, image_prompt_1={"image_url": URL}).work.spec.pictures == (look,)


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_control_image_is_no_picture(nothing: str | None) -> None:
    assert order(ROOT, control_image_url=nothing).work.spec.pictures == ()


def test_the_first_source_example() -> None:
    """image-prompt with one PyraCanny picture, weight 1, stop at 1."""
    slot = {"type": "PyraCanny", "image_url": "data:image/png;base64,AAAA", "weight": 1, "stop_at": 1}
    accepted = order(IMAGE_PROMPT, prompt="an owl", seed=176400, image_prompt_1=slot, aspect_ratio="1024x1024")
    assert accepted.work.spec.pictures == (
        Structure(
            kind="PyraCanny",
            source="data:image/png;base64,AAAA",
            weight=1.0,
            stop_at=1.0,
            field="image_prompt_1.image_url",
        ),
    )
    assert accepted.work.spec.seeds == (176400,)
    assert accepted.work.delivery == Delivery(format="jpeg", inline=False)


def test_slots_keep_their_order_and_empty_ones_are_left_out() -> None:
    slots: dict[str, Any] = {
        "image_prompt_1": {"type": "PyraCanny", "image_url": "https://example.com/1", "weight": 0.5},
        "image_prompt_2": {"type": "FaceSwap", "image_url": "https://example.com/2"},
        "image_prompt_3": {"type": "PyraCanny", "image_url": ""},
        "image_prompt_4": {"type": "CPDS", "image_url": "https://example.com/4", "stop_at": 0.9},
    }
    assert order(IMAGE_PROMPT, **slots).work.spec.pictures == (
        Structure(
            kind="PyraCanny", source="https://example.com/1", weight=0.5, stop_at=0.5, field="image_prompt_1.image_url"
        ),
        Reference(
            kind="FaceSwap", source="https://example.com/2", weight=1.0, stop_at=0.5, field="image_prompt_2.image_url"
        ),
        Structure(
            kind="CPDS", source="https://example.com/4", weight=1.0, stop_at=0.9, field="image_prompt_4.image_url"
        ),
    )


def test_the_fast_endpoint() -> None:
    asked = {"negative_prompt": "blur", "num_inference_steps": 6, "guidance_scale": 3, "seed": 5, "num_images": 2}
    assert order(FAST, **asked).work.spec == Spec(
        prompt="a fox",
        negative_prompt="blur",
        size=Size(width=1024, height=1024),
        seeds=(5, 6),
        steps=6,
        sampler="lcm",
        schedule="lcm",
        guidance=Guidance(scale=3.0),
        loras=(LCM,),
        refiner=REFINER,
        pictures=(),
        expand_prompt=True,
        check_safety=True,
    )


def test_fast_image_to_image_begins_from_the_picture() -> None:
    assert order(FAST_I2I, seed=5).work.spec == Spec(
        prompt="a fox",
        negative_prompt="",
        size=None,
        seeds=(5,),
        steps=8,
        sampler="lcm",
        schedule="tail",
        guidance=Guidance(scale=2.0),
        loras=(LCM,),
        refiner=REFINER,
        pictures=(Start(source=URL, strength=0.95, field="image_url"),),
        expand_prompt=True,
        check_safety=True,
    )


def test_strength_is_passed_on() -> None:
    start = order(FAST_I2I, strength=0.3).work.spec.start
    assert start is not None
    assert start.strength == 0.3


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("crop", [False, True])
def test_how_the_picture_fits_into_the_size_is_passed_on(keep: bool, crop: bool) -> None:
    start = order(FAST_I2I, preserve_aspect_ratio=keep, crop_output=crop).work.spec.start
    assert start is not None
    assert (start.keep_aspect, start.crop) == (keep, crop)


def test_an_empty_picture_address_is_refused() -> None:
    (entry,) = refused(FAST_I2I, image_url="")
    assert (entry.type, entry.loc) == ("string_too_short", ("image_url",))


@pytest.mark.parametrize("asked", [True, False])
def test_the_safety_check_is_as_asked(asked: bool) -> None:
    for endpoint in (ROOT, *TWO):
        assert order(endpoint, enable_safety_checker=asked).work.spec.check_safety is asked


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_fast_endpoints_choose_the_safety_checker(version: str) -> None:
    assert {order(each, safety_checker_version=version).work.spec.safety_checker_version for each in TWO} == {version}
    assert order(ROOT).work.spec.safety_checker_version == "v1"


def test_expansion_follows_the_style_in_one_family_and_the_field_in_the_other() -> None:
    assert order(ROOT).work.spec.expand_prompt is True
    assert order(ROOT, styles=[]).work.spec.expand_prompt is False
    assert order(FAST, expand_prompt=False).work.spec.expand_prompt is False


@pytest.mark.parametrize("name", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("inline", [True, False])
def test_delivery_of_the_fooocus_family(name: str, inline: bool) -> None:
    delivery = order(ROOT, output_format=name, sync_mode=inline).work.delivery
    assert (delivery.format, delivery.inline) == (name, inline)


@pytest.mark.parametrize("endpoint", TWO)
@pytest.mark.parametrize("name", ["png", "jpeg"])
def test_delivery_of_the_fast_family(endpoint: str, name: str) -> None:
    delivery = order(endpoint, format=name).work.delivery
    assert (delivery.format, delivery.inline) == (name, False)


def test_the_work_carries_the_request() -> None:
    work = order(FAST_I2I).work
    assert (work.request_id, work.endpoint, work.base_url) == ("request-1", FAST_I2I, "http://localhost:8000")


def test_work_survives_its_way_through_the_ledger() -> None:
    work = order(IMAGE_PROMPT, image_prompt_1={"type": "PyraCanny", "image_url": URL}, seed=2**63 - 1).work
    assert type(work).model_validate_json(work.model_dump_json()) == work
