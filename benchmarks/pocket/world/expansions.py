"""What a language model of prompts learns from: captions that go on with embellishing words, none twice."""

import random

from benchmarks.pocket.world.captions import caption
from benchmarks.pocket.world.scenes import any_scene
from models.pocket.style_words import OPPOSITES, OTHERS, opposite


def expansion(said: str, chance: random.Random) -> list[str]:
    """Every word that may follow what is said, in any order: no opposites, nothing that it says or denies already."""
    spoken = set(words(said))
    chosen = [*(_one_of(pair, spoken, chance) for pair in OPPOSITES), *OTHERS]
    found = [word for word in chosen if word not in spoken]
    chance.shuffle(found)
    return found


def embellished(chance: random.Random) -> str:
    """A caption, and what it goes on with after a comma."""
    said = caption(any_scene(chance), chance)
    return f"{said}, {', '.join(expansion(said, chance))}"


def words(said: str) -> list[str]:
    """Without commas."""
    return said.replace(",", " ").split()


def opposed(said: str, added: list[str]) -> int:
    """How many of the added words deny something that was said or added before."""
    before = set(words(said))
    count = 0
    for word in added:
        count += opposite(word) in before
        before.add(word)
    return count


def _one_of(pair: tuple[str, str], spoken: set[str], chance: random.Random) -> str:
    for word in pair:
        if word in spoken:
            return word
    return chance.choice(pair)
