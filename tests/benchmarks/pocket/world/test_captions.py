"""Captions say what is there, in words that differ."""

import random

import pytest

from benchmarks.pocket.world.captions import caption
from benchmarks.pocket.world.scenes import Scene, Thing, any_scene
from models.pocket.words import PLACE_WORDS, SIZE_WORDS

SCENE = Scene((Thing("circle", "red", "big", "left"),), "blue")


def test_a_complete_caption_tells_everything() -> None:
    for seed in range(50):
        text = caption(SCENE, random.Random(seed), complete=True)
        assert "red circle" in text
        assert "blue" in text
        assert any(word in text for word in SIZE_WORDS["big"])
        assert any(words in text for words in PLACE_WORDS["left"])


def test_colour_and_shape_are_always_told_and_the_rest_sometimes() -> None:
    texts = [caption(SCENE, random.Random(seed)) for seed in range(100)]
    assert all("red circle" in text for text in texts)
    for words in (("blue",), SIZE_WORDS["big"], PLACE_WORDS["left"]):
        told = sum(any(word in text for word in words) for text in texts)
        assert 40 < told < 90


def test_captions_run_from_the_bare_to_the_long_winded() -> None:
    texts = [caption(SCENE, random.Random(seed)) for seed in range(300)]
    assert min(len(text.split()) for text in texts) <= 3
    assert max(len(text.split()) for text in texts) >= 14
    assert len(set(texts)) > 150


def test_both_things_of_a_pair_are_placed() -> None:
    chance = random.Random(3)
    pairs = [scene for scene in (any_scene(chance) for _ in range(200)) if len(scene.things) == 2]
    assert len(pairs) > 20
    for scene in pairs:
        text = caption(scene, chance)
        for thing in scene.things:
            assert thing.colour in text
            assert any(words in text for words in PLACE_WORDS[thing.place])


@pytest.mark.parametrize("seed", range(20))
def test_an_article_fits_its_word(seed: int) -> None:
    text = caption(Scene((Thing("heart", "orange", "small", "top"),), "white"), random.Random(seed))
    assert "a orange heart" not in text
