"""The limits of prompts: what is refused, that it is refused fast, and that what people send is far inside."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.conditioning import encode_prompt
from pipelines.prompts.chunks import Tokenise
from pipelines.prompts.limits import MAX_CHUNKS, PromptLimits
from pipelines.prompts.phrasebook import BUNDLED
from pipelines.prompts.tokenizer import tokenizers_of
from pipelines.spec import Embedding
from pipelines.weights.family import Family
from tests.pipelines.prompts.timing import least_seconds
from tests.pipelines.studio import spec

NEGATIVE = (  # 107 words
    "(worst quality:1.4), (low quality:1.4), (normal quality:1.2), lowres, bad anatomy, bad hands, ((extra fingers)), "
    "fewer fingers, extra limbs, (missing arms:1.3), missing legs, extra arms, extra legs, mutated hands, (fused "
    "fingers:1.2), too many fingers, long neck, cross-eyed, mutation, deformed iris, deformed pupils, semi-realistic, "
    "cgi, 3d, render, sketch, cartoon, drawing, anime, text, cropped, out of frame, jpeg artifacts, ugly, duplicate, "
    "morbid, mutilated, poorly drawn hands, poorly drawn face, blurry, dehydrated, bad proportions, cloned face, "
    "disfigured, gross proportions, malformed limbs, watermark, signature, username, error, logo, grainy, overexposed, "
    "underexposed, monochrome, oversaturated, airbrushed, plastic skin, doll, mannequin, amateur, unnatural pose, "
    "(asymmetric eyes:1.1), crooked teeth, double head, conjoined, kitsch, low contrast, boring, simple background, "
)
HOSTILE = {
    "emoji": "😀" * 10_000,
    "one word": "a" * 10_000,
    "zalgo": "a" + "\u0301\u0323\u0300" * 3_333,
    "CJK": "漢字" * 5_000,
    "right to left": "אב" * 5_000,
    "opening": "(" * 10_000,
    "nested": "(" * 5_000 + ")" * 5_000,
    "colons": ":" * 10_000,
    "a long number, nested": "(" * 3_000 + "a:0." + "1" * 3_990 + ")" * 3_000,
    "groups": "(x:1e308)" * 1_111,
    "empty lines": "\n" * 10_000,
    "short lines": "a\n" * 5_000,
    "different lines": "\n".join(f"{number:x}" for number in range(2_200)),
    "different words": " ".join(f"{number:x}" for number in range(2_200)),
    "tabs": "\t " * 5_000,
    "digits": "1" * 10_000,
}


@pytest.fixture(scope="module")
def tokenisers(pocket_family_folder: Path) -> Sequence[Tokenise]:
    return tokenizers_of(pocket_family_folder / "config")


@pytest.fixture(scope="module")
def limits(tokenisers: Sequence[Tokenise]) -> PromptLimits:
    return PromptLimits(tokenisers)


def refusals(limits: PromptLimits, prompt: str = "", negative_prompt: str = "") -> list[tuple[str, str, object]]:
    found = limits.faults(spec(prompt=prompt, negative_prompt=negative_prompt))
    return [(fault.type, fault.field, fault.ctx) for fault in found]


@pytest.mark.parametrize("join", ["\n", " "], ids=["lines", "words"])
def test_as_many_chunks_as_allowed_pass_and_one_more_does_not(limits: PromptLimits, join: str) -> None:
    chunk = "a" if join == "\n" else " ".join(["a"] * 75)
    most, more = join.join([chunk] * MAX_CHUNKS), join.join([chunk] * MAX_CHUNKS + ["a"])
    assert refusals(limits, most, most) == []
    assert refusals(limits, "a", more) == [("sequence_too_long", "negative_prompt", {"max_length": MAX_CHUNKS})]
    assert [field for _, field, _ in refusals(limits, more, more)] == ["prompt", "negative_prompt"]


def test_the_message_tells_how_many_there_are_how_many_may_be_and_what_they_are(limits: PromptLimits) -> None:
    (fault,) = limits.faults(spec(prompt="😀" * 10_000))
    assert "534 chunks" in fault.msg
    assert f"at most {MAX_CHUNKS}" in fault.msg
    assert "75 tokens" in fault.msg


def test_embeddings_are_not_counted_by_how_they_are_spelt(limits: PromptLimits) -> None:
    token = "<a-token-of-many-signs>"
    lines = {"prompt": " ".join([token] * 300), "negative_prompt": " ".join(["embedding:many-signs-too"] * 300)}
    assert [fault.field for fault in limits.faults(spec(**lines))] == ["prompt"]
    assert limits.faults(spec(**lines, embeddings=(Embedding(source="a", tokens=(token,)),))) == []


def test_another_number_of_chunks_may_be_allowed(tokenisers: Sequence[Tokenise]) -> None:
    few = PromptLimits(tokenisers, max_chunks=8)
    assert refusals(few, "\n".join("a" * 9)) == [("sequence_too_long", "prompt", {"max_length": 8})]


def test_what_people_send_is_far_inside(limits: PromptLimits, tokenisers: Sequence[Tokenise]) -> None:
    """Two hundred words with weights, of the pocket vocabulary, which needs thrice the tokens of CLIP's."""
    two_hundred = " ".join((2 * NEGATIVE).split()[:200])
    half = PromptLimits(tokenisers, max_chunks=MAX_CHUNKS // 2)
    assert refusals(half, two_hundred, two_hundred) == []
    each_weighted = " ".join(f"({word.strip('(),')}:1.3)," for word in (3 * NEGATIVE).split()[:300])
    assert refusals(limits, each_weighted, each_weighted) == []


@pytest.mark.parametrize(
    ("prompt", "type", "ctx"),
    [
        ("(a:100.5)", "less_than_equal", {"le": 100.0}),
        ("(a:1e39)", "less_than_equal", {"le": 100.0}),
        ("(a:1e308)", "less_than_equal", {"le": 100.0}),
        ("(a:1e309)", "less_than_equal", {"le": 100.0}),
        ("b, ((a):1e308)", "less_than_equal", {"le": 100.0}),
        ("(" * 931 + "a" + ")" * 931, "less_than_equal", {"le": 100.0}),
        ("(" * 49 + "a" + ")" * 49, "less_than_equal", {"le": 100.0}),
        ("one\n(a:1e30)", "less_than_equal", {"le": 100.0}),
        ("(a:-101)", "greater_than_equal", {"ge": -100.0}),
        ("(((a):-1e308))", "greater_than_equal", {"ge": -100.0}),
        ("((a:-1e308))", "greater_than_equal", {"ge": -100.0}),
    ],
)
def test_a_weight_beyond_a_hundred_is_refused(limits: PromptLimits, prompt: str, type: str, ctx: object) -> None:
    assert refusals(limits, negative_prompt=prompt) == [(type, "negative_prompt", ctx)]


@pytest.mark.parametrize(
    "prompt",
    ["(a:100)", "(a:-100)", "(a:0)", "(" * 48 + "a" + ")" * 48, "(to:infinity)", "(a:nan)", "( :1e308) a", "16:9"],
)
def test_other_weights_and_what_is_none_pass(limits: PromptLimits, prompt: str) -> None:
    assert refusals(limits, prompt) == []


@pytest.mark.parametrize("prompt", HOSTILE.values(), ids=HOSTILE)
def test_no_prompt_takes_long(limits: PromptLimits, prompt: str) -> None:
    """It takes a tenth of this; the gateway counts on a thread, beside which others are answered."""
    assert least_seconds(lambda: refusals(limits, prompt)) < 1


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
prompts = st.lists(
    st.one_of(
        words,
        st.text("ab :()\\1.\n\t!,", max_size=30),
        st.sampled_from(["\n", " ", "(red:1.3)", "😀" * 30, "a" * 200, "!!!", "x" + "\u0301" * 40, "<|endoftext|>"]),
    ),
    max_size=12,
).map("".join)


@pytest.fixture(scope="module")
def encoded_rows(pocket_family: Family) -> Callable[[str], int]:
    """How many rows the text encoders read for a prompt."""

    def count(prompt: str) -> int:
        models = pocket_family.tokenizers, pocket_family.text_encoders
        (texts,) = BUNDLED.assembled(spec(prompt=prompt)).images
        with torch.inference_mode():
            return len(encode_prompt(texts.positive, *models, max_chunks=10_000).context) // 77

    return count


@settings(max_examples=40, deadline=None)
@given(prompt=prompts)
def test_the_count_is_that_of_the_rows_that_are_encoded(
    encoded_rows: Callable[[str], int], tokenisers: Sequence[Tokenise], prompt: str
) -> None:
    rows = encoded_rows(prompt)
    assert refusals(PromptLimits(tokenisers, rows), prompt) == []
    assert ("sequence_too_long", "prompt", {"max_length": rows - 1}) in refusals(
        PromptLimits(tokenisers, rows - 1), prompt
    )
