"""The oracle: reads a scene back from a picture of any size, by plain image analysis."""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from benchmarks.pocket.world.drawing import Pixels, paint
from benchmarks.pocket.world.scenes import COLOURS, PLACES, SHAPES, SIZES, Scene, Thing

Mask = npt.NDArray[np.bool_]
Picture = npt.NDArray[np.float32]

SIDE = 256  # pictures are read at this size
RIM = 3  # outermost pixels in which nothing is looked for: a VAE's padding tints them
GRAIN = 5  # pixels across of which the median is taken
APART = 45.0  # distance in RGB from which a pixel is not background
SMALLEST = 0.006  # share of the picture that a thing covers at least
EDGE = 0.5  # a soft edge runs where the colour is half way from the background to the thing
CORE = 0.6  # share of the pixels of a thing, those nearest to the background, that do not count for its colour
NORMAL = 48  # side to which the mask of a thing is brought before it is compared


class Oracle:
    """Reads pictures. Knows each shape's mask, cut to its box and brought to a common size."""

    def __init__(self) -> None:
        self._templates = {shape: _template(shape) for shape in SHAPES}

    def read(self, picture: Pixels) -> Scene | None:
        """The scene that a (height, width, 3) picture shows, things from left to right and top to bottom.

        None when nothing stands out from the background.
        """
        small = _seen(picture)
        ground = _ground(small)
        differs = (np.linalg.norm(small - ground, axis=2) > APART).astype(np.uint8)
        _blank_rim(differs)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(_closed(differs), connectivity=8)
        things = []
        for label in range(1, count):
            if stats[label, cv2.CC_STAT_AREA] < SMALLEST * SIDE**2:
                continue
            thing = self._thing(small, ground, (labels == label) & (differs > 0), picture.shape[1] / picture.shape[0])
            if thing.colour != _name(ground):
                things.append(thing)
        if not things:
            return None
        order = {place: at for at, place in enumerate(("left", "top", "centre", "right", "bottom"))}
        return Scene(tuple(sorted(things, key=lambda thing: order[thing.place])), _name(ground))

    def _thing(self, picture: Picture, ground: Picture, part: Mask, aspect: float) -> Thing:
        away = np.linalg.norm(picture - ground, axis=2) * part
        part = away > EDGE * np.quantile(away[part], 0.9)
        rows, columns = np.where(part)
        top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
        # the picture was squeezed into a square; radii are shares of its shorter side
        wide, tall = (right - left) / SIDE, (bottom - top) / SIDE
        radius = max(wide * max(aspect, 1), tall / min(aspect, 1)) / 2
        colour = np.median(picture[away >= np.quantile(away[part], CORE)], axis=0)
        middle = ((left + right) / 2 / SIDE, (top + bottom) / 2 / SIDE)
        return Thing(
            shape=self._shape(part[top:bottom, left:right]),
            colour=_name(colour),
            size=min(SIZES, key=lambda size: abs(SIZES[size] - radius)),
            place=min(
                PLACES, key=lambda place: (PLACES[place][0] - middle[0]) ** 2 + (PLACES[place][1] - middle[1]) ** 2
            ),
        )

    def _shape(self, part: Mask) -> str:
        found = _normal(part)
        likeness = {
            shape: (found & template).sum() / max(1, (found | template).sum())
            for shape, template in self._templates.items()
        }
        return max(likeness, key=lambda shape: likeness[shape])


def _seen(picture: Pixels) -> Picture:
    """(SIDE, SIDE, 3), without grain."""
    small = np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX))
    return np.asarray(cv2.medianBlur(small, GRAIN), np.float32)


def standing_out(picture: Pixels) -> Mask:
    """(SIDE, SIDE): where things are in a (height, width, 3) picture, without grain; soft edges run half way."""
    small = _seen(picture)
    away = np.linalg.norm(small - _ground(small), axis=2)
    _blank_rim(away)
    things = away > APART
    there: Mask = away > (EDGE * np.quantile(away[things], 0.9) if things.any() else APART)
    return there


def _blank_rim(values: npt.NDArray[Any]) -> None:
    for rim in (np.s_[:RIM], np.s_[-RIM:], np.s_[:, :RIM], np.s_[:, -RIM:]):
        values[rim] = 0


def mask(picture: Pixels) -> Mask:
    """Which pixels of a (height, width, 3) picture are not background."""
    ground = _ground(picture.astype(np.float32))
    differs: Mask = np.linalg.norm(picture.astype(np.float32) - ground, axis=2) > APART
    return differs


def _ground(picture: Picture) -> Picture:
    edge = max(2, min(picture.shape[:2]) // 32)
    rims = (picture[:edge], picture[-edge:], picture[:, :edge], picture[:, -edge:])
    ground: Picture = np.median(np.concatenate([rim.reshape(-1, 3) for rim in rims]), axis=0)
    return ground


def _closed(differs: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Join what a thin gap separates."""
    return np.asarray(cv2.morphologyEx(differs, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)), np.uint8)


def _name(colour: Picture) -> str:
    return min(COLOURS, key=lambda name: float(np.linalg.norm(np.asarray(COLOURS[name]) - colour)))


def _template(shape: str) -> Mask:
    image = Image.new("L", (256, 256), 0)
    paint(ImageDraw.Draw(image), shape, (128, 128), 100, 255, 0)
    part = np.asarray(image) > 0
    rows, columns = np.where(part)
    return _normal(part[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])


def _normal(part: Mask) -> Mask:
    return cv2.resize(part.astype(np.float32), (NORMAL, NORMAL), interpolation=cv2.INTER_AREA) > 0.5
