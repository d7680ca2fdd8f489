"""The texts of each picture are those of fooocus-facts 3.1 to 3.4, and no prompt makes it fail or take long."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import InputFault
from pipelines.prompts.assembly import Assembled, assemble
from pipelines.prompts.lora_tags import LoraTag, take_lora_tags
from pipelines.prompts.styles import Style
from pipelines.prompts.wildcards import read_wildcards, replace_arrays
from tests.pipelines.prompts.timing import least_seconds

STYLES = {
    "Ink": Style("Ink", ("ink of {prompt}, fine",), ("colour",)),
    "Plain": Style("Plain", ("sharp",), ()),
    "Clay": Style("Clay", ("{prompt} in clay", "soft light"), ("ink", "paper")),
    "Less": Style("Less", (), ("noise",)),
}
WILDCARDS = {
    "animal": ("cat", "dog", "owl", "fox", "hen"),
    "nest": ("a __colour__ __animal__",),
    "colour": ("red", "blue"),
    "self": ("more __self__",),
    "twice": ("__twice__ __twice__",),
    "ping": ("__pong__",),
    "pong": ("__ping__",),
}


def assembled(prompt: str, negative: str = "", styles: Sequence[str] = (), seeds: Sequence[int] = (7,)) -> Assembled:
    return assemble(prompt, negative, styles, seeds, known=STYLES, wildcards=WILDCARDS)


@pytest.mark.parametrize(
    ("prompt", "negative", "styles", "positive", "negatives"),
    [
        ("a cat", "", [], ["a cat"], [""]),
        ("a  cat,\nsecond.", "dark\nwet", [], ["a cat", "second"], ["dark", "wet"]),
        ("a cat\nmore", "dark", ["Ink"], ["ink of a cat, fine", "more"], ["colour", "dark"]),
        ("a cat", "", ["Plain"], ["a cat", "sharp"], [""]),
        (
            "a cat",
            "",
            ["Clay", "Ink"],
            ["a cat in clay", "soft light", "ink of a cat, fine"],
            ["ink", "paper", "colour"],
        ),
        ("a cat", "dark", ["Less", "Plain", "Ink"], ["sharp", "ink of a cat, fine"], ["noise", "colour", "dark"]),
        ("", "", ["Less"], [""], ["noise"]),
        ("a cat", "", ["Fooocus V2"], ["a cat"], [""]),
        ("{prompt}", "", ["Ink"], ["ink of {prompt}, fine"], ["colour"]),
        ("a cat", "", ["Ink", "Ink"], ["ink of a cat, fine"], ["colour"]),
    ],
)
def test_texts(prompt: str, negative: str, styles: list[str], positive: list[str], negatives: list[str]) -> None:
    (image,) = assembled(prompt, negative, styles).images
    assert (list(image.positive), list(image.negative)) == (positive, negatives)


def test_expansion_is_on_for_a_prompt_and_not_for_none() -> None:
    assert assembled("a cat", styles=["Fooocus V2"]).expands
    assert not assembled("a cat", styles=["Ink"]).expands
    assert not assembled(" , ", styles=["Fooocus V2"]).expands


def test_a_random_style_is_drawn_per_picture_and_again_for_the_same_seed() -> None:
    seeds = range(40)
    first, again = (assembled("a cat", styles=["Random Style"], seeds=seeds) for _ in range(2))
    assert first == again
    assert {image.styles for image in first.images} == {("Ink",), ("Plain",), ("Clay",), ("Less",)}


def test_wildcards_nest_and_are_drawn_by_the_seed_in_the_order_of_the_facts() -> None:
    many = assembled("__nest__\n__animal__", "__animal__", seeds=range(60)).images
    assert {image.main for image in many} == {f"a {c} {a}" for c in WILDCARDS["colour"] for a in WILDCARDS["animal"]}
    assert many[3] == assembled("__nest__\n__animal__", "__animal__", seeds=[3]).images[0]
    # the negative line is drawn before the extra lines: without it they differ
    other = assembled("__nest__\n__animal__", "", seeds=range(60)).images
    assert [image.main for image in many] == [image.main for image in other]
    assert [image.positive[1] for image in other] == [image.negative[0] for image in many]


def test_a_wildcard_without_a_file_stands_for_its_name() -> None:
    assert assembled("a __missing-one__ cat").images[0].main == "a missing-one cat"


@pytest.mark.parametrize("prompt", ["__self__", "__twice__", "__ping__", "a __pong__ b"])
def test_a_wildcard_that_names_itself_is_one_error(prompt: str) -> None:
    with pytest.raises(InputFault, match="names itself") as caught:
        assembled("fine", prompt)
    assert (caught.value.type, caught.value.field) == ("value_error", "negative_prompt")


def test_wildcards_are_read_from_files_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "tree.txt").write_text("\ufeffoak\n\n  elm  \r\n", "utf-8")
    (tmp_path / "empty.txt").write_text("\n", "utf-8")
    assert read_wildcards(tmp_path) == {"tree": ("oak", "elm")}
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"bad\.txt"):
        read_wildcards(tmp_path)


def test_the_first_array_varies_fastest() -> None:
    text = "[[a, b]] and [[c,d,e]]"
    drawn = [replace_arrays(text, index) for index in range(7)]
    assert drawn[:4] == ["a and c", " b and c", "a and d", " b and d"]
    assert len(set(drawn)) == 6
    assert drawn[6] == drawn[0]
    assert assembled("a [[red, blue]] cat", "[[x, y]]", seeds=[5, 6]).images[1].main == "a  blue cat"
    assert assembled("cat", "[[x, y]]").images[0].negative == ("[[x, y]]",)


@pytest.mark.parametrize(
    ("line", "kept", "tags"),
    [
        ("a cat,,  red ,", "a cat, red", []),
        ("a <lora:ink:0.5> cat, <lora:sub/clay:-1>", "a cat", [("ink", 0.5), ("sub/clay", -1.0)]),
        ("<lora:a:.5><lora:a:0.5><lora:a:1>", "", [("a", 0.5), ("a", 1.0)]),
        ("<lora:a> <lora:b:x> c", "<lora:a> <lora:b:x> c", []),
    ],
)
def test_lora_tags(line: str, kept: str, tags: list[tuple[str, float]]) -> None:
    assert take_lora_tags(line) == (kept, [LoraTag(*tag) for tag in tags])


def test_only_the_first_line_is_looked_through_for_tags() -> None:
    found = assembled("cat\n<lora:a:1>")
    assert (found.loras, found.images[0].positive) == ((), ("cat", "<lora:a:1>"))


@pytest.mark.parametrize(("weight", "type"), [("1" * 400, "less_than_equal"), ("-101", "greater_than_equal")])
def test_a_weight_out_of_range_is_refused(weight: str, type: str) -> None:
    with pytest.raises(InputFault) as caught:
        assembled(f"<lora:a:{weight}>")
    assert (caught.value.type, caught.value.field) == (type, "prompt")


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(InputFault, match="Fauve"):
        assembled("cat", styles=["Fauve"])


PIECES = [
    "__",
    "animal",
    "__nest__",
    "__self__",
    "__twice__",
    "[[",
    "]]",
    ",",
    "<lora:",
    "a:1>",
    ":",
    ">",
    "\n",
    "{prompt}",
    "(",
    ")",
]
PROMPTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=40).map("".join)


def seconds_to_assemble(prompt: str, negative: str, styles: Sequence[str]) -> float:
    def tried() -> None:
        with contextlib.suppress(InputFault):
            assembled(prompt, negative, styles)

    return least_seconds(tried)


requests = given(
    prompt=PROMPTS,
    negative=PROMPTS,
    seed=st.integers(0, 2**63 - 1),
    styles=st.lists(st.sampled_from([*STYLES, "Random Style"]), max_size=3),
)


def hold_to_its_promises(prompt: str, negative: str, seed: int, styles: list[str]) -> None:
    with contextlib.suppress(InputFault):
        found = assembled(prompt, negative, styles, [seed])
        (image,) = found.images
        assert image.positive
        assert image.negative
        assert assembled(prompt, negative, styles, [seed]) == found
    assert seconds_to_assemble(prompt, negative, styles) < 0.05


@settings(max_examples=500, deadline=None)
@requests
def test_no_prompt_fails_but_by_its_own_fault(prompt: str, negative: str, seed: int, styles: list[str]) -> None:
    hold_to_its_promises(prompt, negative, seed, styles)


@pytest.mark.long
@pytest.mark.timeout(3600)  # five minutes alone, and more beside others
@settings(max_examples=10_000, deadline=None)
@requests
def test_none_of_ten_thousand_prompts_fails(prompt: str, negative: str, seed: int, styles: list[str]) -> None:
    hold_to_its_promises(prompt, negative, seed, styles)


@pytest.mark.parametrize(
    "piece",
    [
        "_",
        "__a",
        "__a__",
        "__nest__",
        "[[",
        "[[a,",
        "]]",
        "<lora:",
        "<lora:a:1",
        "<lora:a:1>",
        "<lora:a:1>,",
        ",",
        " ",
        "\n",
        "a\n",
    ],
)
def test_ten_thousand_characters_of_anything_take_no_time(piece: str) -> None:
    prompt = (piece * 10_000)[:10_000]
    assert seconds_to_assemble(prompt, prompt, list(STYLES)) < 0.2
