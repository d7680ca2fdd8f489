"""Pictures of every feature of the service, drawn by the pocket family by chance: small ones in few steps, mostly."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from benchmarks.pocket.acceptance.engine import drawn
from benchmarks.pocket.world.captions import caption
from benchmarks.pocket.world.drawing import Pixels, draw
from benchmarks.pocket.world.marked import unmarked
from benchmarks.pocket.world.scenes import any_scene
from models.pocket.names import LCM, LIGHTNING
from pipelines.drawing import Drawer
from pipelines.preparing import LoraCatalogue
from pipelines.spec import Canvas, Guidance, Lora, Mask, Picture, Reference, Size, Spec, Start, Structure, Upscale, Vary

SIZES = ((64, 64), (128, 128), (192, 192), (256, 256), (256, 192), (192, 256), (128, 320), (384, 384), (512, 512))
OFTEN = (8, 10, 5, 5, 6, 3, 2, 1, 1)  # how often each of them
STEPS = (1, 1, 1, 1, 1, 2, 2, 2, 3, 4, 4, 4, 6, 8, 8, 24)
STYLES = ("SAI Anime", "Fooocus Sharp", "SAI Line Art", "MRE Comic", "Futuristic Biomechanical Cyberpunk")
TEXTS = ("", "", "a lighthouse at dusk", "portrait of an old sailor", "pink and black tiles", "purple stripes, neon")
TOGETHER, FEWER = 8, 2  # pictures that are asked for at once; of large ones
LARGE = 256 * 256  # pixels
ENLARGING = ("vary", "upscale", "enlarge")  # these come to 1024 x 1024


@dataclass(frozen=True, slots=True)
class Wish:
    """A spec, and the decoded pictures that it is drawn from."""

    feature: str
    spec: Spec
    shown: tuple[Pixels, ...] = ()


def wishes(chance: random.Random, count: int) -> list[Wish]:
    """As many specs by chance; some that follow one another have size and feature in common."""
    found: list[Wish] = []
    while len(found) < count:
        size = chance.choices(SIZES, OFTEN)[0]
        feature = chance.choices([*FEATURES], [each.often for each in FEATURES.values()])[0]
        large = feature in ENLARGING or size[0] * size[1] > LARGE
        found += [_wish(chance, feature, *size) for _ in range(FEWER if large else TOGETHER)]
    return found[:count]


def pictures_of(drawer: Drawer, catalogue: LoraCatalogue, asked: list[Wish]) -> list[Pixels]:
    """The picture of each wish, (height, width, 3) uint8 RGB, in their order."""
    found: list[Pixels] = []
    for first in range(0, len(asked), TOGETHER):
        some = asked[first : first + TOGETHER]
        found += drawn(drawer, catalogue, [each.spec for each in some], [each.shown for each in some])
    return found


def _wish(chance: random.Random, feature: str, width: int, height: int) -> Wish:
    pictures, shown = FEATURES[feature].make(chance, width, height)
    steps = chance.choice((1, 2)) if feature in ENLARGING else chance.choice(STEPS)
    mode: dict[str, Any] = chance.choice((_fast, _fast, _extreme, _lightning, _speed))(chance)
    if feature == "enlarge":
        steps = 0
    spec = Spec(
        prompt=caption(any_scene(chance), chance) if chance.random() < 0.8 else chance.choice(TEXTS),
        styles=(chance.choice(STYLES),) if chance.random() < 0.15 else (),
        size=Size(width=width, height=height),
        seeds=(chance.getrandbits(31),),
        steps=steps,
        pictures=pictures,
        check_safety=False,
        **mode,
    )
    return Wish(feature, spec, shown)


def _fast(chance: random.Random) -> dict[str, Any]:
    guidance = Guidance(scale=chance.choice((0.0, 1.0, 2.0, 2.0, 6.0)), rescale=chance.choice((0.0, 0.0, 0.7)))
    return {"sampler": "lcm", "schedule": chance.choice(("lcm", "tail")), "guidance": guidance, **_with(LCM)}


def _extreme(chance: random.Random) -> dict[str, Any]:
    return {"sampler": "lcm", "schedule": "lcm", **_with(LCM)}


def _lightning(chance: random.Random) -> dict[str, Any]:
    return {"sampler": "euler", "schedule": "sgm_uniform", **_with(LIGHTNING)}


def _speed(chance: random.Random) -> dict[str, Any]:
    guidance = Guidance(scale=4.0, sharpness=2.0, mimicked=7.0)
    return {"sampler": "dpmpp_2m_sde", "schedule": "karras", "guidance": guidance}


def _with(lora: str) -> dict[str, Any]:
    return {"loras": (Lora(source=lora, scale=1.0, performance=True),)}


def _shown(chance: random.Random, width: int, height: int) -> Pixels:
    """A scene, or now and then what is like the mark and is not."""
    if chance.random() < 0.2:
        return unmarked(chance, min(width, height))
    return draw(any_scene(chance), width, height, chance, smooth=1)


Made = tuple[tuple[Picture, ...], tuple[Pixels, ...]]


def _none(chance: random.Random, width: int, height: int) -> Made:
    return (), ()


def _structure(chance: random.Random, width: int, height: int) -> Made:
    kind = chance.choice(("PyraCanny", "PyraCanny", "CPDS"))
    weight, stop = chance.choice((0.5, 1.0, 1.0, 1.5)), chance.choice((0.5, 1.0))
    return (Structure(kind=kind, source="", weight=weight, stop_at=stop),), (_shown(chance, width, height),)


def _reference(chance: random.Random, width: int, height: int) -> Made:
    kind = chance.choice(("ImagePrompt", "ImagePrompt", "FaceSwap"))
    weight, stop = chance.choice((0.6, 1.0, 1.5)), chance.choice((0.5, 0.9))
    return (Reference(kind=kind, source="", weight=weight, stop_at=stop),), (_shown(chance, width, height),)


def _start(chance: random.Random, width: int, height: int) -> Made:
    return (Start(source="", strength=chance.choice((0.3, 0.6, 0.95))),), (_shown(chance, width, height),)


def _canvas(chance: random.Random, width: int, height: int) -> Made:
    """A hole in a picture, or its continuation at a side."""
    given = _shown(chance, width, height)
    side = min(256, max(128, 64 * (max(width, height) // 64)))
    if chance.random() < 0.4:
        sides = (chance.choice(("Left", "Right", "Top", "Bottom")),)
        return (Canvas(source="", outpaint=sides, resolution=side),), (given,)
    mask = given * 0
    top, left = chance.randrange(mask.shape[0] // 2), chance.randrange(mask.shape[1] // 2)
    mask[top : top + mask.shape[0] // 2, left : left + mask.shape[1] // 2] = 255
    canvas = Canvas(source="", resolution=side, strength=chance.choice((0.5, 1.0)))
    return (canvas, Mask(source="")), (given, mask)


def _vary(chance: random.Random, width: int, height: int) -> Made:
    return (Vary(source="", strength=chance.choice((0.5, 0.85))),), (_shown(chance, width, height),)


def _upscale(chance: random.Random, width: int, height: int) -> Made:
    return (Upscale(source="", factor=chance.choice((1.5, 2.0))),), (_shown(chance, width, height),)


@dataclass(frozen=True, slots=True)
class Feature:
    """often: how often it is asked for, beside the others. make: its pictures for a spec of that width and height."""

    often: int
    make: Callable[[random.Random, int, int], Made]


FEATURES: Mapping[str, Feature] = MappingProxyType(
    {
        "text": Feature(40, _none),
        "structure": Feature(22, _structure),
        "reference": Feature(10, _reference),
        "start": Feature(10, _start),
        "canvas": Feature(12, _canvas),
        "enlarge": Feature(2, _upscale),
        "upscale": Feature(1, _upscale),
        "vary": Feature(1, _vary),
    }
)
"""Besides a text alone, what a picture may be drawn from."""
