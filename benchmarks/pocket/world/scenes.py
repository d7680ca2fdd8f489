"""Scenes: what is in a picture of the pocket model's world."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

Colour = tuple[int, int, int]

COLOURS: Mapping[str, Colour] = MappingProxyType(
    {
        "red": (220, 30, 35),
        "orange": (250, 140, 20),
        "yellow": (250, 225, 40),
        "green": (40, 160, 60),
        "blue": (35, 75, 215),
        "purple": (125, 45, 160),
        "pink": (250, 150, 190),
        "brown": (120, 75, 35),
        "black": (15, 15, 15),
        "white": (245, 245, 245),
    }
)
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "heart", "face")
SIZES: Mapping[str, float] = MappingProxyType({"small": 0.14, "big": 0.22})  # radius, as a share of the shorter side
PLACES: Mapping[str, tuple[float, float]] = MappingProxyType(  # share of width and of height
    {"left": (0.25, 0.5), "right": (0.75, 0.5), "top": (0.5, 0.25), "bottom": (0.5, 0.75), "centre": (0.5, 0.5)}
)
OPPOSITES = (("left", "right"), ("top", "bottom"))
PAIRS = 0.2  # share of scenes with two shapes


@dataclass(frozen=True, slots=True)
class Thing:
    """A shape. Every word is a key of the tables above."""

    shape: str
    colour: str
    size: str
    place: str


@dataclass(frozen=True, slots=True)
class Scene:
    """One shape, or two in opposite places, on a background of another colour."""

    things: tuple[Thing, ...]
    background: str

    def alone(self) -> "Scene":
        """Only the first thing."""
        return Scene(self.things[:1], self.background)


def any_scene(chance: random.Random) -> Scene:
    """A scene in which everything is equally likely."""
    background, *colours = chance.sample(sorted(COLOURS), 3)
    if chance.random() < PAIRS:
        places = list(chance.choice(OPPOSITES))
        chance.shuffle(places)
    else:
        places = [chance.choice(sorted(PLACES))]
    things = (
        Thing(chance.choice(SHAPES), colour, chance.choice(sorted(SIZES)), place)
        for colour, place in zip(colours, places, strict=False)
    )
    return Scene(tuple(things), background)
