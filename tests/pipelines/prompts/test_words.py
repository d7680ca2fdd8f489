"""Which words of a language model may follow a prompt."""

from pathlib import Path

import pytest

from pipelines.errors import WeightsFault
from pipelines.prompts.words import MAX_LETTERS, WordFilter, is_word, read_words

ANY = WordFilter()


@pytest.mark.parametrize(
    ("said", "written", "phrases"),
    [
        ("a cat", " highly detailed, digital painting", ["highly detailed", "digital painting"]),
        ("a cat", " sharp focus.\nby night! 8k; art-deco, Rembrandt's", "sharp focus|by night|8k|art-deco|Rembrandt's"),
        ("a cat", " a red moon, red sky, blue sky", ["red sky"]),  # `a` is said, so the moon and its `red` are not
        ("a (Red:1.2) cat", " red, warm", ["warm"]),
        ("a cat", " warm, warm, Warm light, cold cold", ["warm"]),
        ("", "", []),
    ],
)
def test_phrases_are_added_whole_and_no_word_twice(said: str, written: str, phrases: list[str] | str) -> None:
    wanted = phrases.split("|") if isinstance(phrases, str) else phrases
    assert [*ANY.phrases(said, written, whole=True)] == wanted


@pytest.mark.parametrize(
    "unclean",
    [
        *("(detailed:1.2)", "((light", "light)", "[[a", "<lora:x:1>", "__colour__", "embedding:name", "a_b", "<s0>"),
        *("\N{REPLACEMENT CHARACTER}", "1990", "-", "'", "ha--ha", "#1", "http://x", "50%", "a\\(b", "{prompt}", "😀"),
        "x" * (MAX_LETTERS + 1),
    ],
)
def test_nothing_that_a_prompt_means_something_by_is_added(unclean: str) -> None:
    assert not is_word(unclean)
    assert ANY.phrases("a cat", f" warm, so {unclean}, cold", whole=True) == ("warm", "cold")


@pytest.mark.parametrize(
    ("written", "phrases"),
    [
        (" warm, bright, col", ("warm", "bright")),
        (" warm, bright,", ("warm", "bright")),
        (" warm li", ("warm",)),
        ("w", ()),
    ],
)
def test_what_may_be_a_fragment_is_left_out(written: str, phrases: tuple[str, ...]) -> None:
    assert ANY.phrases("a cat", written, whole=False) == phrases


def test_lists_allow_and_block_words_in_any_case() -> None:
    listed = WordFilter(frozenset({"warm", "cold", "light"}), frozenset({"cold"}))
    assert listed.phrases("a cat", " Warm light, cold, loud, warm", whole=True) == ("Warm light",)
    blocking = WordFilter(blocked=frozenset({"cold"}))
    assert blocking.phrases("a cat", " Cold light, loud", whole=True) == ("loud",)


def test_a_list_is_given_or_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("\ufeffWarm\n\ncold, light\n", "utf-8")
    assert read_words(path) == read_words(("warm", "COLD light")) == {"warm", "cold", "light"}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes(b"\xff\xfe\xff")
    for name in ("words.txt", "none.txt"):
        with pytest.raises(WeightsFault, match=name):
            read_words(tmp_path / name)
