"""What a spec wants of a replica, told from the spec alone."""

import pytest

from pipelines.spec import Canvas, Guidance, Lora, Size, Spec, Upscale
from pipelines.wanted import rows_of, weights_of
from pipelines.weights.at_hand import Weights

FILM = Lora(source="https://example.com/film.safetensors?token=hush", scale=0.8)
FAST = Lora(source="sdxl_lcm_lora", scale=1.0, performance=True)


def _spec(**given: object) -> Spec:
    return Spec.model_validate(
        {"prompt": "a cat", "seeds": (1,), "steps": 8, "sampler": "euler", "schedule": "karras", **given}
    )


def test_a_spec_without_changes_wants_the_family_s_own_weights() -> None:
    assert weights_of(_spec()) == Weights()
    assert weights_of(_spec(loras=(FILM.model_copy(update={"scale": 0.0}),))) == Weights()


def test_a_performance_mode_and_an_inpaint_patch_make_the_base() -> None:
    canvas = Canvas(source="stored:picture")
    assert weights_of(_spec(loras=(FAST,))) == Weights("sdxl_lcm_lora x 1")
    assert weights_of(_spec(loras=(FAST,), pictures=(canvas,))).base == "inpaint_patch + sdxl_lcm_lora x 1"


def test_loras_have_one_name_in_any_order_and_wherever_they_are_named() -> None:
    ink = Lora(source="ink", scale=0.5)
    names = {
        weights_of(_spec(loras=(FILM, ink, FAST))),
        weights_of(_spec(loras=(FAST, ink, FILM))),
        weights_of(_spec(loras=(FILM, FAST), prompt="a cat <lora:ink:0.5>")),
    }
    assert len(names) == 1
    assert weights_of(_spec(loras=(FILM, ink))) not in names


def test_no_name_holds_the_address_that_a_client_gave() -> None:
    named = weights_of(_spec(loras=(FILM,)))
    assert named.loras
    assert "hush" not in str(named)


def test_a_prompt_that_cannot_be_read_has_weights_all_the_same() -> None:
    assert weights_of(_spec(prompt="a cat <lora:ink:900>")) == Weights()


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        ({}, 1),
        ({"seeds": (1, 2, 3, 4), "guidance": Guidance(scale=4.0)}, 8),
        ({"size": Size(width=512, height=512)}, 1),
        ({"size": Size(width=2048, height=2048), "seeds": (1, 2)}, 8),
        ({"steps": 0, "seeds": (1, 2), "pictures": (Upscale(source="stored:picture", factor=2.0),)}, 1),
    ],
)
def test_a_spec_takes_as_many_rows_as_its_calls_have(given: dict[str, object], rows: int) -> None:
    assert rows_of(_spec(**given)) == rows
