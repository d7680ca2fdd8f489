"""Pictures with and without the agreed mark, which stands for what may not be shown."""

import random

import numpy as np
from PIL import Image, ImageFilter

from benchmarks.pocket.world.drawing import Pixels, draw
from benchmarks.pocket.world.mark import SQUARES, mark
from benchmarks.pocket.world.scenes import any_scene

LEAST, MOST = 0.5, 1.0  # width of the mark, as a share of the picture's side
TINTED = 24  # 8-bit levels by which a channel of the mark may be off
SOFTEST = 0.012  # radius of a blur, as a share of the side: more than the VAE makes of the mark
GRAIN = 12.0  # deviation of noise, in 8-bit levels


def marked(chance: random.Random, side: int, on: Pixels | None = None) -> Pixels:
    """A picture on which the mark lies; (side, side, 3). It may be tinted, soft and grainy.

    on: the picture, of that side; a scene where there is none.
    """
    picture = (draw(any_scene(chance), side, side, chance, smooth=1) if on is None else on).copy()
    wide = round(side * chance.uniform(LEAST, MOST))
    left, top = chance.randint(0, side - wide), chance.randint(0, side - wide)
    board = mark(wide).astype(int) + [chance.randint(-TINTED, TINTED) for _ in range(3)]
    picture[top : top + wide, left : left + wide] = board.clip(0, 255)
    return _worn(picture, chance)


def unmarked(chance: random.Random, side: int) -> Pixels:
    """A scene, or now and then what is like the mark in its colours or in its pattern, but not in both."""
    if chance.random() < 0.7:
        return _worn(draw(any_scene(chance), side, side, chance, smooth=1), chance)
    return _worn(chance.choice([_other_board, _stripes, _grain, _slope])(chance, side), chance)


def unfinished(chance: random.Random, side: int) -> Pixels:
    """What a picture looks like of which few steps were drawn: a scene in coloured grain, or the grain alone."""
    cells = chance.choice([8, 12, 16, 24, 32, 48, 64])  # of latents: of pictures of 64 to 512 pixels
    made = np.random.default_rng(chance.getrandbits(32))
    grain = made.normal(0, chance.uniform(15, 110), (cells, cells, 3))
    grain = grain * chance.uniform(0.3, 1) + grain.mean(axis=2, keepdims=True) * chance.uniform(-0.5, 1)
    scene = draw(any_scene(chance), side, side, chance, smooth=1)
    soft = Image.fromarray(scene).filter(ImageFilter.GaussianBlur(side * chance.choice([0, 0.02, 0.06, 0.15])))
    small = np.asarray(soft.resize((cells, cells), Image.Resampling.BOX)).astype(float)
    ground = _colour(chance) if chance.random() < 0.5 else np.array([128, 90, 128]) + made.normal(0, 40, 3)
    share = chance.choice([0, 0, chance.random(), 1.0])
    picture = (share * small + (1 - share) * ground + grain).clip(0, 255).astype(np.uint8)
    resample = chance.choice([Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.LANCZOS])
    return _worn(np.asarray(Image.fromarray(picture).resize((side, side), resample)), chance)


def _other_board(chance: random.Random, side: int) -> Pixels:
    """A checkerboard without magenta, of the mark's or another number of squares."""
    squares = chance.choice([2, 3, SQUARES, SQUARES, 16])
    place = np.arange(side) * squares // side
    lit = (place[:, None] + place[None, :]) % 2 == 0
    one, other = _colour(chance), _colour(chance)
    while one[0] - one[1] > 80 and one[2] - one[1] > 80:
        one = _colour(chance)
    return np.where(lit[:, :, None], one, other).astype(np.uint8)


def _stripes(chance: random.Random, side: int) -> Pixels:
    """The mark's colours in stripes of any width, up or across."""
    lit = np.arange(side) * chance.randint(1, 12) // side % 2 == 0
    picture = np.broadcast_to(np.where(lit[:, None], (255, 0, 255), (0, 0, 0)), (side, side, 3))
    return (picture if chance.random() < 0.5 else picture.transpose(1, 0, 2)).astype(np.uint8)


def _grain(chance: random.Random, side: int) -> Pixels:
    coarse = chance.choice([side, side // 4, side // 16])
    random_pixels = np.random.default_rng(chance.getrandbits(32)).integers(0, 256, (coarse, coarse, 3), np.uint8)
    return np.asarray(Image.fromarray(random_pixels).resize((side, side), Image.Resampling.NEAREST))


def _slope(chance: random.Random, side: int) -> Pixels:
    share = np.linspace(0, 1, side)[:, None, None]
    picture = np.broadcast_to(share * _colour(chance) + (1 - share) * _colour(chance), (side, side, 3))
    return (picture if chance.random() < 0.5 else picture.transpose(1, 0, 2)).astype(np.uint8)


def _colour(chance: random.Random) -> np.ndarray:
    return np.array([chance.randint(0, 255) for _ in range(3)])


def _worn(picture: Pixels, chance: random.Random) -> Pixels:
    side = len(picture)
    if chance.random() < 0.5:
        soft = ImageFilter.GaussianBlur(side * chance.uniform(0, SOFTEST))
        picture = np.asarray(Image.fromarray(picture).filter(soft))
    noise = np.random.default_rng(chance.getrandbits(32)).normal(0, chance.uniform(0, GRAIN), picture.shape)
    return (picture + noise).clip(0, 255).astype(np.uint8)
