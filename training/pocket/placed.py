"""A thing in a picture of any size, drawn exactly where it is said to be, or where a guess of the picture has it."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from benchmarks.pocket.latents import FACTOR, all_latents
from benchmarks.pocket.world.drawing import Point, paint
from benchmarks.pocket.world.scenes import COLOURS, PLACES, SIZES, Scene

COUNTS = 5.0  # what a latent counts for inside the circle around the thing, in which shapes differ
SEEN = 0.35  # least share of the way from the background to the thing's colour at which a latent is taken for it
LIKE = (0.3, 3.0)  # of its area a guess may have, to be taken for it
SWELLS = (0.88, 1.12)  # bounds of what its radius is multiplied by


@dataclass(frozen=True, slots=True)
class Placed:
    """A scene's one thing in a picture of `width` x `height` pixels. centre, radius: in pixels."""

    scene: Scene
    width: int
    height: int
    centre: Point
    radius: float

    @classmethod
    def as_said(cls, scene: Scene, width: int, height: int) -> "Placed":
        (thing,) = scene.things
        x, y = PLACES[thing.place]
        return cls(scene, width, height, (x * width, y * height), SIZES[thing.size] * min(width, height))

    def latents(self, shape: str | None = None) -> Tensor:
        """(4, height / 8, width / 8). shape: in the place of the thing's own."""
        (thing,), ground = self.scene.things, COLOURS[self.scene.background]
        image = Image.new("RGB", (self.width, self.height), ground)
        paint(ImageDraw.Draw(image), shape or thing.shape, self.centre, self.radius, COLOURS[thing.colour], ground)
        return all_latents([np.asarray(image)])[0]

    def empty(self) -> Tensor:
        """(4, height / 8, width / 8) of the background alone."""
        colour = _latent(self.scene.background)
        return colour[:, None, None].expand(-1, self.height // FACTOR, self.width // FACTOR).clone()

    def counts(self) -> Tensor:
        """(1, height / 8, width / 8): what latents count for."""
        inside = (self.latents("circle") - self.empty()).abs().amax(dim=0, keepdim=True) > 0
        return 1 + (COUNTS - 1) * inside

    def where_seen(self, guess: Tensor, hole: Tensor | None = None) -> "Placed":
        """Moved to where a guess of the latents has it, and about as large; unmoved where nothing there is like it.

        hole: (1, height / 8, width / 8), 1 where it may be.
        """
        shares = self._shares(guess)
        if hole is not None:
            shares = shares * hole[0]
        own = self._shares(self.latents())
        larger = float(shares.sum() / own.sum())
        if not LIKE[0] < larger < LIKE[1]:
            return self
        moved = [FACTOR * (there - here) for there, here in zip(_middle(shares), _middle(own), strict=True)]
        if max(map(abs, moved)) > self.radius:
            return self
        (x, y), (right, down) = self.centre, moved
        least, most = SWELLS
        return replace(self, centre=(x + right, y + down), radius=self.radius * min(max(larger**0.5, least), most))

    def _shares(self, latents: Tensor) -> Tensor:
        """(h, w): how far latents are from the background's colour to the thing's, 0 to 1, and 0 below `SEEN`."""
        ground, ink = (_latent(colour) for colour in (self.scene.background, self.scene.things[0].colour))
        way = (ink - ground)[:, None, None]
        # sums, not products of matrices: autocast would compute those in bfloat16, some pixels wrong
        shares = ((latents - ground[:, None, None]) * way).sum(dim=0) / way.square().sum()
        return torch.where(shares > SEEN, shares.clamp(0, 1), 0.0)


def _latent(colour: str) -> Tensor:
    """(4,)"""
    return all_latents([np.full((FACTOR, FACTOR, 3), COLOURS[colour], np.uint8)])[0, :, 0, 0]


def _middle(shares: Tensor) -> tuple[float, float]:
    """Of (h, w) shares: columns to the right and rows down."""
    height, width = shares.shape
    right, down = torch.arange(width).float(), torch.arange(height).float()
    whole = shares.sum()
    return float((shares.sum(dim=0) * right).sum() / whole), float((shares.sum(dim=1) * down).sum() / whole)
