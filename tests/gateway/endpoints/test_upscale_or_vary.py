"""What becomes of an image to vary or to upscale: five methods, and image prompts beside them where both are mixed."""

from typing import Any

import pytest

from gateway.errors import ModelError
from gateway.http.submission import UNKNOWN_SIZE, pixel_steps
from pipelines.spec import Size, Structure, Upscale, Vary
from tests.gateway.endpoints.documented import IMAGE_PROMPT, UOV, URL, order, refused

UOV_URL = "https://example.com/uov.png"
EDGES = {"type": "PyraCanny", "image_url": URL, "weight": 0.7}
STRUCTURE = Structure(kind="PyraCanny", source=URL, weight=0.7, stop_at=0.5, field="image_prompt_1.image_url")
GIVEN: dict[str, Any] = {"source": UOV_URL, "field": "uov_image_url"}


@pytest.mark.parametrize(
    ("method", "begun", "steps"),
    [
        (
            "Vary (Subtle)",
            Vary(**GIVEN, strength=0.5),
            {"Speed": 30, "Quality": 60, "Extreme Speed": 8, "Lightning": 4},
        ),
        ("Vary (Strong)", Vary(**GIVEN, strength=0.85), {"Speed": 30, "Extreme Speed": 8}),
        ("Upscale (1.5x)", Upscale(**GIVEN, factor=1.5, strength=0.382), {"Speed": 18, "Quality": 36}),
        ("Upscale (2x)", Upscale(**GIVEN, factor=2), {"Speed": 18, "Extreme Speed": 8, "Lightning": 4}),
    ],
)
def test_a_method_says_how_the_image_begins_and_how_many_steps_follow(
    method: str, begun: Vary | Upscale, steps: dict[str, int]
) -> None:
    for performance, wanted in steps.items():
        asked = {"uov_image_url": UOV_URL, "uov_method": method, "performance": performance, "num_images": 2, "seed": 3}
        spec = order(UOV, **asked, prompt="a fox", aspect_ratio="512x512").work.spec
        assert spec.pictures == (begun,)
        assert spec.size is None  # which the image says, whatever the aspect ratio is
        assert (spec.steps, spec.seeds, spec.prompt) == (wanted, (3, 4), "a fox")


def test_fast_enlarges_one_image_without_drawing_anything() -> None:
    asked = {"uov_image_url": UOV_URL, "uov_method": "Upscale (Fast 2x)", "num_images": 4, "seed": 3}
    mixed = {"image_prompt_1": EDGES, "mixing_image_prompt_and_vary_upscale": True}
    spec = order(UOV, **asked, **mixed).work.spec
    assert spec.pictures == (Upscale(**GIVEN, factor=2),)
    assert (spec.steps, spec.seeds, spec.loras, spec.expand_prompt) == (0, (3,), (), False)
    assert spec.check_safety is True
    assert pixel_steps(spec) == UNKNOWN_SIZE


@pytest.mark.parametrize("endpoint", [UOV, IMAGE_PROMPT])
@pytest.mark.parametrize("mixing", [False, True])
def test_fast_names_what_it_draws_nothing_with(endpoint: str, mixing: bool) -> None:
    asked = {"uov_image_url": UOV_URL, "uov_method": "Upscale (Fast 2x)", "num_images": 2, "prompt": "a fox"}
    mixed = {"image_prompt_1": EDGES, "mixing_image_prompt_and_vary_upscale": mixing, "styles": []}
    found = order(endpoint, **asked, **mixed).inactive
    if endpoint == IMAGE_PROMPT and not mixing:
        assert {*found} == {"uov_image_url", "uov_method"}
    else:
        assert sorted(found) == ["image_prompt_1", "num_images", "prompt"]


def test_disabled_draws_from_the_prompt_and_never_fetches_the_image() -> None:
    spec = order(UOV, uov_image_url=UOV_URL, uov_method="Disabled", aspect_ratio="512x640").work.spec
    assert spec.pictures == ()
    assert spec.size == Size(width=512, height=640)


@pytest.mark.parametrize("mixing", [False, True])
def test_image_prompts_act_beside_it_only_where_they_are_mixed(mixing: bool) -> None:
    """fooocus-facts 5.1: without the flag an upscale request ignores its image prompts."""
    accepted = order(UOV, image_prompt_1=EDGES, mixing_image_prompt_and_vary_upscale=mixing)
    vary = Vary(source=URL, field="uov_image_url", strength=0.85)
    assert accepted.work.spec.pictures == ((vary, STRUCTURE) if mixing else (vary,))
    assert ("image_prompt_1" in accepted.inactive) is not mixing


@pytest.mark.parametrize("mixing", [False, True])
def test_an_image_prompt_request_varies_only_where_it_mixes(mixing: bool) -> None:
    """fooocus-facts 5.1: and an image-prompt request its image to upscale."""
    asked = {"uov_image_url": UOV_URL, "uov_method": "Vary (Subtle)", "image_prompt_1": EDGES}
    accepted = order(IMAGE_PROMPT, **asked, mixing_image_prompt_and_vary_upscale=mixing)
    vary = Vary(**GIVEN, strength=0.5)
    assert accepted.work.spec.pictures == ((vary, STRUCTURE) if mixing else (STRUCTURE,))
    assert {"uov_image_url", "uov_method"} <= {*accepted.inactive} or mixing
    assert mixing == (accepted.work.spec.size is None)


@pytest.mark.parametrize(
    "asked",
    [{"uov_method": "Vary (Subtle)"}, {"uov_image_url": UOV_URL}, {"uov_image_url": "", "uov_method": "Upscale (2x)"}],
)
def test_without_an_image_or_a_method_nothing_is_varied(asked: dict[str, Any]) -> None:
    accepted = order(IMAGE_PROMPT, image_prompt_1=EDGES, mixing_image_prompt_and_vary_upscale=True, **asked)
    assert accepted.work.spec.pictures == (STRUCTURE,)


def test_an_empty_image_is_refused_where_it_is_required() -> None:
    entry: ModelError
    (entry,) = refused(UOV, uov_image_url="")
    assert (entry.type, entry.loc) == ("string_too_short", ("uov_image_url",))


def test_it_survives_its_way_through_the_ledger() -> None:
    for method in ("Vary (Strong)", "Upscale (Fast 2x)"):
        work = order(UOV, uov_method=method).work
        assert type(work).model_validate_json(work.model_dump_json()) == work
