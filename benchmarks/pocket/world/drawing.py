"""Draws scenes."""

import math
import random
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from benchmarks.pocket.world.scenes import COLOURS, PLACES, SIZES, Colour, Scene, Thing

Pixels = npt.NDArray[np.uint8]
Point = tuple[float, float]
Ink = Colour | int  # a number in a picture of one channel

WANDER, SWELL, TINT = 0.02, 0.05, 6  # of places and radii as shares, of colours as 8-bit levels


def draw(scene: Scene, width: int, height: int, chance: random.Random | None = None, smooth: int = 4) -> Pixels:
    """(height, width, 3) pixels. chance: moves, swells and tints things a little; None draws them exactly.

    smooth: each pixel is the mean of smooth x smooth points.
    """
    ground = _tinted(COLOURS[scene.background], chance)
    image = Image.new("RGB", (width * smooth, height * smooth), ground)
    pencil = ImageDraw.Draw(image)
    for thing in scene.things:
        _draw_thing(pencil, thing, width * smooth, height * smooth, ground, chance)
    return np.asarray(image.resize((width, height), Image.Resampling.BOX) if smooth > 1 else image)


def _draw_thing(
    pencil: ImageDraw.ImageDraw, thing: Thing, width: int, height: int, ground: Ink, chance: random.Random | None
) -> None:
    x, y = PLACES[thing.place]
    radius = SIZES[thing.size] * min(width, height)
    if chance:
        x, y = x + chance.uniform(-WANDER, WANDER), y + chance.uniform(-WANDER, WANDER)
        radius *= 1 + chance.uniform(-SWELL, SWELL)
    paint(pencil, thing.shape, (x * width, y * height), radius, _tinted(COLOURS[thing.colour], chance), ground)


def paint(pencil: ImageDraw.ImageDraw, shape: str, centre: Point, radius: float, colour: Ink, ground: Ink) -> None:
    """One shape of a colour; what is open in it shows the ground."""
    x, y = centre

    def at(points: Iterator[Point]) -> list[Point]:
        return [(x + radius * right, y + radius * down) for right, down in points]

    def disc(right: float, down: float, wide: float, fill: Ink) -> None:
        left, top = x + radius * (right - wide), y + radius * (down - wide)
        pencil.ellipse((left, top, left + 2 * radius * wide, top + 2 * radius * wide), fill=fill)

    match shape:
        case "circle":
            disc(0, 0, 1, colour)
        case "square":
            pencil.polygon(at(iter([(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)])), fill=colour)
        case "triangle":
            pencil.polygon(at(iter([(0, -1), (0.95, 0.8), (-0.95, 0.8)])), fill=colour)
        case "star":
            pencil.polygon(at(_star()), fill=colour)
        case "ring":
            disc(0, 0, 1, colour)
            disc(0, 0, 0.52, ground)
        case "cross":
            pencil.polygon(at(_cross()), fill=colour)
        case "heart":
            pencil.polygon(at(_heart()), fill=colour)
        case "face":
            disc(0, 0, 1, colour)
            disc(-0.38, -0.3, 0.2, ground)
            disc(0.38, -0.3, 0.2, ground)
            box = (x - 0.55 * radius, y - 0.5 * radius, x + 0.55 * radius, y + 0.65 * radius)
            pencil.chord(box, 15, 165, fill=ground)
        case _:
            raise ValueError(f"no such shape: {shape}")


def _star() -> Iterator[Point]:
    for at in range(10):
        far, angle = (1.05, 0.45)[at % 2], math.pi * (at / 5 - 0.5)
        yield far * math.cos(angle), far * math.sin(angle)


def _cross() -> Iterator[Point]:
    arm = 0.33
    yield from ((-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm))
    yield from ((arm, 1), (-arm, 1), (-arm, arm), (-1, arm), (-1, -arm), (-arm, -arm))


def _heart() -> Iterator[Point]:
    for at in range(60):
        angle = 2 * math.pi * at / 60
        across = 16 * math.sin(angle) ** 3
        up = 13 * math.cos(angle) - 5 * math.cos(2 * angle) - 2 * math.cos(3 * angle) - math.cos(4 * angle)
        yield across / 17, -(up + 2.5) / 16


def _tinted(colour: Colour, chance: random.Random | None) -> Colour:
    if chance is None:
        return colour
    red, green, blue = (min(255, max(0, level + chance.randint(-TINT, TINT))) for level in colour)
    return red, green, blue
