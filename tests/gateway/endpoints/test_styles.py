"""Styles that are asked for reach the spec, and their texts its prompts, a line each."""

import pytest

from gateway.endpoints.styles import DEFAULT_STYLES
from pipelines.prompts.assembly import styled_lines
from pipelines.prompts.limits import PromptLimits
from pipelines.prompts.styles import STYLES
from tests.gateway.endpoints.documented import FOUR, INPAINT, order

READY = [endpoint for endpoint in FOUR if endpoint != INPAINT]
ANIME, CLAY = STYLES["SAI Anime"], STYLES["SAI Craft Clay"]


@pytest.mark.parametrize("endpoint", READY)
def test_texts_of_styles_are_put_round_the_prompt_in_their_order(endpoint: str) -> None:
    asked = {"prompt": "a red cat,\nat noon", "negative_prompt": "rain", "styles": ["SAI Craft Clay", "SAI Anime"]}
    spec = order(endpoint, **asked).work.spec
    positive, negative = styled_lines(spec.prompt, spec.negative_prompt, spec.styles, STYLES)
    assert positive == (*CLAY.round("a red cat"), *ANIME.round("a red cat"), "at noon")
    assert negative == (*CLAY.negative, *ANIME.negative, "rain")


@pytest.mark.parametrize("styles", [[], ["Fooocus V2"], [*DEFAULT_STYLES]])
def test_no_texts_act_of_the_expansion_alone_or_the_default_styles(styles: list[str]) -> None:
    assert order(READY[0], prompt="a", styles=styles).work.spec.styles == ()


def test_a_long_prompt_in_every_style_is_refused_before_it_is_cut_to_tokens() -> None:
    spec = order(READY[0], prompt="a" * 10_000, styles=list(STYLES)).work.spec
    (fault,) = PromptLimits([]).faults(spec)
    assert (fault.type, fault.field) == ("sequence_too_long", "prompt")
