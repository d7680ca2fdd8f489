"""Holes as large as requests draw them, with what is to be drawn in them."""

import random
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.pocket.acceptance.inpaint import CLEARANCE, square
from benchmarks.pocket.latents import FACTOR, all_latents
from benchmarks.pocket.world.scenes import PLACES, SIZES, Scene, Thing, any_scene
from pipelines.images.area import area_of
from pipelines.images.masks import Mask, scaled_mask
from pipelines.images.sizes import GRID, at_ceil
from pipelines.repainting import GRAY
from pipelines.spec import Canvas
from training.pocket.placed import Placed

HARD = ("star", "face")
FORMATS = ((1024, 1024), (1024, 1024), (1152, 896), (896, 1152))
"""Widths and heights of whole pictures."""
AREA = 1024  # side of a square of about as many pixels as an area is drawn with
FIELD = float(Canvas.model_fields["respective_field"].default)  # where a request says nothing of it
EXACT = 0.7  # share of holes as far around their thing as the gate's
MOST, NEAREST = 0.47, 1.06  # of a thing's radius, in sides of its hole; and of its centre to a side, in radii


@dataclass(frozen=True, eq=False)
class LargeHole:
    """placed: what is to be drawn. hole: (1, h, w), 1 in it. around: (4, h, w) latents, gray in it."""

    placed: Placed
    hole: Tensor
    around: Tensor


def any_hard_scene(chance: random.Random) -> Scene:
    """Twice as often one with a star or a face, which come out last."""
    while True:
        scene = any_scene(chance)
        if chance.random() < 0.5 or any(thing.shape in HARD for thing in scene.things):
            return scene


def any_hole(chance: random.Random) -> LargeHole:
    """In an area of one colour. The thing is where and as large as its words say of a picture, if the hole has room.

    If it stood in the hole's middle, as large as it allows, areas would contradict its words, as they are enlarged.
    """
    scene = any_hard_scene(chance)
    while len(scene.things) > 1:
        scene = any_hard_scene(chance)
    mask = _around(scene.things[0], *chance.choice(FORMATS), chance)
    box = area_of(mask, chance.choice((FIELD, FIELD, 1.0, 1.0, chance.random())))
    width, height = (side // GRID * GRID for side in at_ceil(4 * box.width, 4 * box.height, AREA))
    marked = scaled_mask(box.cut(mask), height, width)
    placed = _inside(Placed.as_said(scene, width, height), marked)
    hole = nn.functional.max_pool2d(torch.from_numpy(marked > 0)[None].float(), FACTOR)
    gray = all_latents([np.full((FACTOR, FACTOR, 3), int(GRAY), np.uint8)])[0]  # 8-bit pictures have no half
    return LargeHole(placed, hole, torch.where(hole > 0, gray, placed.empty()))


def _around(thing: Thing, width: int, height: int, chance: random.Random) -> Mask:
    """(height, width), 255 in a square around a thing's place."""
    clear = CLEARANCE[1] if chance.random() < EXACT else chance.uniform(*CLEARANCE)
    return 255 * square(*PLACES[thing.place], clear * SIZES[thing.size], width, height).astype(np.uint8)


def _inside(placed: Placed, marked: Mask) -> Placed:
    """As near to where it is as the marked part of the area has room for it, and smaller where it has none."""
    ends = [np.flatnonzero(marked.any(axis=axis))[[0, -1]].tolist() for axis in (0, 1)]
    radius = min(placed.radius, *(MOST * (last + 1 - first) for first, last in ends))
    x, y = (
        min(max(at, first + NEAREST * radius), last + 1 - NEAREST * radius)
        for at, (first, last) in zip(placed.centre, ends, strict=True)
    )
    return replace(placed, centre=(x, y), radius=radius)
