"""Styles that are asked for reach the spec, and their texts its pictures, a line each."""

from typing import Any

import pytest

from gateway.endpoints.styles import DEFAULT_STYLES
from gateway.errors import ValidationErrors
from gateway.validation import validated
from pipelines.prompts.assembly import Texts
from pipelines.prompts.limits import PromptLimits
from pipelines.prompts.phrasebook import BUNDLED, Phrasebook
from pipelines.prompts.styles import STYLES, Style
from tests.gateway.endpoints.documented import FOUR, INPAINT, order

READY = [endpoint for endpoint in FOUR if endpoint != INPAINT]
ANIME, CLAY = STYLES["SAI Anime"], STYLES["SAI Craft Clay"]
ENHANCE, SHARP = STYLES["Fooocus Enhance"], STYLES["Fooocus Sharp"]


def texts(endpoint: str, **asked: Any) -> tuple[Texts, ...]:
    return BUNDLED.assembled(order(endpoint, **asked).work.spec).images


@pytest.mark.parametrize("endpoint", READY)
def test_texts_of_styles_are_put_round_the_prompt_in_their_order(endpoint: str) -> None:
    asked = {"prompt": "a red cat,\nat noon", "negative_prompt": "rain", "styles": ["SAI Craft Clay", "SAI Anime"]}
    (drawn,) = texts(endpoint, **asked)
    assert drawn.positive == (*CLAY.round("a red cat"), *ANIME.round("a red cat"), "at noon")
    assert drawn.negative == (*CLAY.negative, *ANIME.negative, "rain")


@pytest.mark.parametrize("asked", [{}, {"styles": [*DEFAULT_STYLES]}])
def test_the_texts_of_the_default_styles_act(asked: dict[str, Any]) -> None:
    spec = order(READY[0], prompt="a cat", **asked).work.spec
    assert spec.styles == ("Fooocus Enhance", "Fooocus Sharp")
    assert spec.expand_prompt
    (drawn,) = BUNDLED.assembled(spec).images
    assert drawn.positive == SHARP.round("a cat")
    assert drawn.negative == (*ENHANCE.negative, *SHARP.negative)


@pytest.mark.parametrize("styles", [[], ["Fooocus V2"]])
def test_no_texts_act_of_the_expansion_alone(styles: list[str]) -> None:
    (drawn,) = texts(READY[0], prompt="a cat", styles=styles)
    assert (drawn.positive, drawn.negative) == (("a cat",), ("",))


def test_a_long_prompt_in_every_style_is_refused_before_it_is_cut_to_tokens() -> None:
    spec = order(READY[0], prompt="a" * 10_000, styles=list(STYLES)).work.spec
    (fault,) = PromptLimits([]).faults(spec)
    assert (fault.type, fault.field) == ("sequence_too_long", "prompt")


def test_styles_that_the_service_knows_are_taken_beside_those_of_the_schema_and_listed_where_one_is_not() -> None:
    book = Phrasebook({**STYLES, "House Style": Style("House Style", ("house of {prompt}",), ())})
    from gateway.endpoints import ENDPOINTS

    endpoint = ENDPOINTS[READY[0]]
    asked = {"prompt": "a cat", "styles": ["House Style", "Random Style"], "seed": 1}
    spec = endpoint.order(asked, "r", "", styles=book.names).work.spec
    (drawn,) = book.assembled(spec).images
    assert drawn.positive[0] == "house of a cat"
    assert drawn.styles[0] == "House Style"
    with pytest.raises(ValidationErrors) as caught:
        endpoint.order({**asked, "styles": ["Their Style"]}, "r", "", styles=book.names)
    (error,) = caught.value.errors
    assert (error.type, error.loc) == ("one_of", ("styles", 0))
    assert error.ctx is not None
    assert {"House Style", "Random Style", *DEFAULT_STYLES} < set(error.ctx["expected"])
    assert len(error.ctx["expected"]) == 279
    with pytest.raises(ValidationErrors):
        validated(endpoint.input, asked)
