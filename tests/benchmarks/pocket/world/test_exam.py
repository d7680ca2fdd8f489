"""The exam: its captions tell everything, and its marks count what is right."""

import random

from benchmarks.pocket.world.drawing import draw
from benchmarks.pocket.world.exam import ASPECTS, accuracy, held_out


def test_captions_tell_everything() -> None:
    scenes, said = held_out(50)
    assert all(len(scene.things) == 1 for scene in scenes)
    assert all(
        scene.background in text and scene.things[0].colour in text for scene, text in zip(scenes, said, strict=True)
    )


def test_what_was_drawn_as_wanted_gets_full_marks() -> None:
    scenes, _ = held_out(20)
    pictures = [draw(scene, 256, 256, random.Random(at)) for at, scene in enumerate(scenes)]
    assert accuracy(scenes, pictures) == dict.fromkeys(ASPECTS, 1.0)


def test_the_pictures_of_others_get_about_what_chance_gives() -> None:
    scenes, _ = held_out(60)
    pictures = [draw(scene, 256, 256) for scene in scenes]
    found = accuracy([*scenes[1:], scenes[0]], pictures)
    assert found["background"] < 0.3
    assert found["shape"] < 0.3
