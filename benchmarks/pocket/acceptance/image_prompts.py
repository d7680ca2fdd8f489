"""Gate 8: a picture that is shown is taken over, as far as it is told to."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import Tensor

from benchmarks.pocket.acceptance.engine import drawn, guided
from benchmarks.pocket.acceptance.metric import Metric
from benchmarks.pocket.latents import pixels_of
from benchmarks.pocket.reader import TOKENS, Reader
from benchmarks.pocket.sampling import draw_latents
from benchmarks.pocket.world.captions import caption
from benchmarks.pocket.world.drawing import Pixels, draw
from benchmarks.pocket.world.exam import accuracy
from benchmarks.pocket.world.scenes import COLOURS, PLACES, SIZES, Scene, Thing, any_scene
from pipelines.drawing import Drawer
from pipelines.needs import ADAPTERS
from pipelines.spec import Reference, ReferenceKind
from pipelines.weights.family import Family

SIDE = 256
WANTED = 0.8  # share of pictures that take the colours over


@dataclass(frozen=True, slots=True)
class Example:
    """What is to be drawn, what is said of it, and the picture that it is shown with."""

    scene: Scene
    said: str
    reference: Pixels


def takes_over(drawer: Drawer, family: Family, kind: ReferenceKind, count: int, steps: int = 30) -> list[Metric]:
    """Without words for an image prompt; for a face with words for all but its colour."""
    examples = asked(ADAPTERS[kind], count)
    found = []
    for weight in (0.0, 0.3, 1.0):
        pictures = (Reference(kind=kind, source="", weight=weight),)
        specs = [guided(each.said, SIDE, at, steps=steps, pictures=pictures) for at, each in enumerate(examples)]
        seen = drawn(drawer, family.catalogue, specs, [[each.reference] for each in examples])
        found.append(accuracy([each.scene for each in examples], seen))
    off, less, whole = (found_at["colour"] for found_at in found)
    return [
        Metric(f"{kind}, weight 1: colour", whole, WANTED),
        Metric(f"{kind}, weight 1: background", found[2]["background"], WANTED),
        Metric(f"{kind}, weight 0.3: colour", less, whole, below=True),
        Metric(f"{kind}, weight 0: colour", off, 0.3, below=True),
    ]


def asked(kind: str, count: int) -> list[Example]:
    """Of the exam of an adapter, a key of `ASKED`."""
    chance = random.Random("held out")
    return [ASKED[kind](chance, SIDE) for _ in range(count)]


def score(reader: Reader, unet: Any, examples: list[Example], shown: Tensor, steps: int) -> dict[str, float]:
    """The accuracy of pictures drawn with examples. shown: tokens (2 n, tokens, width), those of no picture first."""
    said = [each.said for each in examples]
    drawn = draw_latents(attending(unet, shown), reader, said, SIDE, steps, TOKENS)
    return accuracy([each.scene for each in examples], list(pixels_of(drawn)))


def attending(unet: Any, shown: Tensor) -> Callable[..., Any]:
    """The UNet with an adapter, which attends to those tokens."""

    def answer(x: Tensor, timesteps: Tensor, context: Tensor, **given: Any) -> Any:
        return unet(x, timesteps, (context, [shown[:, None]]), **given)

    return answer


def picture(chance: random.Random, side: int, told: float = 0.3) -> Example:
    """The picture itself is shown. told: how often a caption goes with it."""
    scene = any_scene(chance)
    said = caption(scene, chance) if chance.random() < told else ""
    return Example(scene, said, draw(scene, side, side, chance, smooth=1))


def _wordless(chance: random.Random, side: int) -> Example:
    example = picture(chance, side, told=0.0)
    alone = example.scene.alone()
    return Example(alone, "", draw(alone, side, side))


def face(chance: random.Random, side: int) -> Example:
    """A face is shown as a crop does it, large; the caption says where one is to be and what is behind it."""
    background, colour, other = chance.sample(sorted(COLOURS), 3)
    thing = Thing("face", colour, chance.choice(sorted(SIZES)), chance.choice(sorted(PLACES)))
    said = caption(Scene((thing,), background), chance, complete=True).replace(f"{colour} ", "", 1)
    return Example(Scene((thing,), background), said, _cropped(colour, other, side, chance))


def _cropped(colour: str, ground: str, side: int, chance: random.Random) -> Pixels:
    """A face that fills the picture."""
    large = draw(Scene((Thing("face", colour, "big", "centre"),), ground), 2 * side, 2 * side, chance, smooth=1)
    edge = round(side * 0.5 * chance.uniform(0.95, 1.05))
    return large[side - edge : side + edge, side - edge : side + edge]


ASKED: Mapping[str, Callable[[random.Random, int], Example]] = MappingProxyType(
    {"image_prompt": _wordless, "face_prompt": face}
)
"""Of each adapter, what its exam asks for."""
