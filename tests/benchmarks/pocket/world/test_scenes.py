"""Scenes: everything occurs, and a thing can be told from its ground."""

import random

from benchmarks.pocket.world.scenes import COLOURS, OPPOSITES, PLACES, SHAPES, SIZES, any_scene


def test_every_word_occurs() -> None:
    chance = random.Random(1)
    scenes = [any_scene(chance) for _ in range(500)]
    things = [thing for scene in scenes for thing in scene.things]
    assert {thing.shape for thing in things} == set(SHAPES)
    assert {thing.colour for thing in things} == {scene.background for scene in scenes} == set(COLOURS)
    assert {thing.size for thing in things} == set(SIZES)
    assert {thing.place for thing in things} == set(PLACES)


def test_no_two_colours_of_a_scene_are_the_same() -> None:
    chance = random.Random(2)
    for scene in (any_scene(chance) for _ in range(300)):
        colours = [scene.background, *(thing.colour for thing in scene.things)]
        assert len(set(colours)) == len(colours)


def test_two_things_are_in_opposite_places() -> None:
    chance = random.Random(3)
    for scene in (any_scene(chance) for _ in range(300)):
        if len(scene.things) == 2:
            assert {thing.place for thing in scene.things} in [set(pair) for pair in OPPOSITES]
