"""What the language model learns from: every text consistent, and denials are found."""

import random

import pytest

from benchmarks.pocket.world.captions import caption
from benchmarks.pocket.world.expansions import embellished, expansion, opposed, words
from benchmarks.pocket.world.scenes import COLOURS, PLACES, SHAPES, any_scene
from models.pocket.style_words import OPPOSITES, STYLE_WORDS, opposite
from models.pocket.words import NAMES, PLACE_WORDS, SIZE_WORDS


@pytest.mark.parametrize("seed", range(20))
def test_no_word_comes_twice_or_denies_another(seed: int) -> None:
    chance = random.Random(seed)
    said = caption(any_scene(chance), chance)
    added = expansion(said, chance)
    assert len(added) >= 40  # enough for the longest expansion
    assert len(set(added)) == len(added)
    assert not set(added) & set(words(said))
    assert opposed(said, added) == 0


def test_no_embellishment_is_a_word_for_what_a_picture_shows() -> None:
    shown = [*COLOURS, *SHAPES, *PLACES]
    shown += [word for table in (NAMES, SIZE_WORDS, PLACE_WORDS) for each in table.values() for word in each]
    assert not set(STYLE_WORDS) & {word for saying in shown for word in saying.split()}
    assert len(set(STYLE_WORDS)) == len(STYLE_WORDS)


@pytest.mark.parametrize("pair", OPPOSITES)
def test_opposites_are_each_others(pair: tuple[str, str]) -> None:
    one, other = pair
    assert (opposite(one), opposite(other)) == (other, one)


def test_denials_of_what_is_said_and_of_what_is_added_are_counted() -> None:
    assert opposed("a sharp red star", ["soft"]) == 1
    assert opposed("a red star", ["bright", "epic", "dark"]) == 1
    assert opposed("a red star", ["bright", "epic"]) == 0


def test_a_text_goes_on_after_a_comma() -> None:
    text = embellished(random.Random(1))
    assert text.count(",") >= 40
    assert embellished(random.Random(1)) == text
