"""What of a spec goes to the language model, and what of its words comes back."""

from collections.abc import Sequence
from typing import Any

import pytest

from pipelines.prompts.expanding import expand_specs, fitting
from pipelines.prompts.phrasebook import BUNDLED, Phrasebook
from pipelines.spec import Spec
from tests.pipelines import studio


class Counting:
    """Adds the seed, and keeps what it was asked; `nothing` stays as it is."""

    def __init__(self) -> None:
        self.asked: list[list[tuple[str, int]]] = []

    def expand(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        self.asked.append([*zip(prompts, seeds, strict=True)])
        return [text if text in ("", "nothing") else f"{text}, {seed}" for text, seed in self.asked[-1]]


def spec(prompt: str, *seeds: int, **fields: Any) -> Spec:
    return studio.spec(prompt=prompt, seeds=seeds, **fields)


def anything(texts: Sequence[str]) -> bool:
    return True


def test_all_pictures_of_all_specs_are_one_batch_each_with_its_own_seed() -> None:
    expander = Counting()
    found = expand_specs([spec("a cat", 1, 2), spec("nothing", 3), spec("", 4)], expander, BUNDLED, anything)
    assert found == [("a cat, 1", "a cat, 2"), ("",), ("",)]
    assert expander.asked == [[("a cat", 1), ("a cat", 2), ("nothing", 3), ("", 4)]]


def test_the_main_line_alone_is_lengthened_its_wildcards_replaced_before() -> None:
    asked = spec("a __pet__, <lora:x:0.5>\na house", 1, 2, styles=("SAI Anime",))
    pets = Phrasebook(wildcards={"pet": tuple("abcdefgh")})
    ((first, second),) = expand_specs([asked], Counting(), pets, anything)
    assert {first[2], second[2]} <= {*"abcdefgh"}
    assert (first[0], first[3:], second[3:]) == ("a", ", 1", ", 2")


def test_a_spec_without_texts_leaves_the_others_their_words() -> None:
    found = expand_specs([spec("a", 1, 2, styles=("unknown",)), spec("b", 3)], Counting(), BUNDLED, anything)
    assert found == [("", ""), ("b, 3",)]


@pytest.mark.parametrize(("most", "added"), [(3, True), (2, False)])
def test_no_words_are_added_that_could_not_be_drawn(most: int, added: bool) -> None:
    fits = fitting([lambda words: [[1]] * len(words)] * 2, most)  # each line is a chunk, the expanded one the third
    ((found,),) = expand_specs([spec("a cat\na house", 1)], Counting(), BUNDLED, fits)
    assert (found == "a cat, 1") is added
