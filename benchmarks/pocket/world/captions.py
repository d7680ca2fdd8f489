"""Captions: the many ways to say what a scene shows, from the bare to the long-winded."""

import random

from benchmarks.pocket.world.scenes import Scene, Thing
from models.pocket.words import ENDINGS, GROUNDS, NAMES, OPENINGS, PLACE_WORDS, SIZE_WORDS

SAID = 0.65  # how often each of size, place and background is told


def caption(scene: Scene, chance: random.Random, *, complete: bool = False, sited: bool = True) -> str:
    """Say what is in a scene. complete: leave nothing out; otherwise size, place and background may go unsaid.

    sited: otherwise sizes and places always go unsaid.
    """

    def tells() -> bool:
        return complete or chance.random() < SAID

    pair = len(scene.things) > 1
    parts = [_thing(thing, chance, size=sited and tells(), place=sited and (pair or tells())) for thing in scene.things]
    text = " and ".join(parts)
    if chance.random() < 0.3:
        text = f"{chance.choice(OPENINGS)} {text}"
    if tells():
        ground = chance.choice(GROUNDS).format(scene.background)
        joint = ", " if ground.startswith(scene.background) or chance.random() < 0.2 else " "
        text += joint + ground
    for _ in range(chance.choice((0, 0, 0, 1, 2))):
        text += f", {chance.choice(ENDINGS)}"
    return text


def _thing(thing: Thing, chance: random.Random, *, size: bool, place: bool) -> str:
    words = [chance.choice(SIZE_WORDS[thing.size])] if size else []
    words += [thing.colour, chance.choice(NAMES.get(thing.shape, (thing.shape,)))]
    article = "an" if words[0][0] in "aeiou" else "a"
    if chance.random() < 0.8:
        words.insert(0, article)
    if place:
        words.append(chance.choice(PLACE_WORDS[thing.place]))
    return " ".join(words)
