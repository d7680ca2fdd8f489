"""Held-out captions, and how much of what they say the oracle reads in the pictures drawn from them."""

import random
from collections.abc import Sequence

from benchmarks.pocket.world.captions import caption
from benchmarks.pocket.world.drawing import Pixels
from benchmarks.pocket.world.oracle import Oracle
from benchmarks.pocket.world.scenes import Scene, any_scene

SOLID = ("circle", "square", "heart")
ASPECTS = ("background", "colour", "shape", "place", "size")


def held_out(count: int) -> tuple[list[Scene], list[str]]:
    """Scenes of one thing, and captions that leave nothing out. No training draws from this seed."""
    chance = random.Random(99)
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = any_scene(chance)
        if len(scene.things) == 1:
            scenes.append(scene)
    return scenes, [caption(scene, chance, complete=True) for scene in scenes]


def solid(count: int) -> list[str]:
    """Held-out captions of things that are filled all over."""
    pairs = zip(*held_out(8 * count), strict=True)
    return [text for scene, text in pairs if scene.things[0].shape in SOLID][:count]


def accuracy(scenes: Sequence[Scene], pictures: Sequence[Pixels]) -> dict[str, float]:
    """Shares of the pictures, of one thing each, in which an aspect is as wanted."""
    oracle = Oracle()
    right = dict.fromkeys(ASPECTS, 0)
    for scene, picture in zip(scenes, pictures, strict=True):
        found = oracle.read(picture)
        if found is None:
            continue
        right["background"] += found.background == scene.background
        for name in ASPECTS[1:]:
            right[name] += getattr(found.things[0], name) == getattr(scene.things[0], name)
    return {name: count / len(scenes) for name, count in right.items()}
