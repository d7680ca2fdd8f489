"""Gates 5 and 6: things are where a control's hint has them; the style LoRA hollows them as far as it is told."""

import random

import numpy as np

from benchmarks.pocket.acceptance.engine import drawn, guided
from benchmarks.pocket.acceptance.metric import Metric
from benchmarks.pocket.world.captions import caption
from benchmarks.pocket.world.drawing import Pixels, draw
from benchmarks.pocket.world.exam import solid
from benchmarks.pocket.world.oracle import standing_out
from benchmarks.pocket.world.outlined import filled
from benchmarks.pocket.world.scenes import Scene, any_scene
from models.pocket import names
from pipelines.drawing import Drawer
from pipelines.spec import Lora, Spec, Structure, StructureKind
from pipelines.weights.family import Family

SIDE = 256
COMPARED = 3  # pictures with a LoRA that does nothing and without
ALIKE, UNLIKE = 0.6, 0.3  # intersection over union with the hint's shape


def follows_hints(drawer: Drawer, family: Family, kind: StructureKind, count: int, steps: int = 30) -> list[Metric]:
    """Gate 5."""
    scenes, said = placeless(count)
    shown = [draw(scene, SIDE, SIDE, random.Random(at)) for at, scene in enumerate(scenes)]
    found = []
    for weight in (1.0, 0.0):
        pictures = (Structure(kind=kind, source="", weight=weight),)
        specs = [guided(text, SIDE, seed, steps=steps, pictures=pictures) for seed, text in enumerate(said)]
        shared = overlap(shown, drawn(drawer, family.catalogue, specs, [[each] for each in shown]))
        bound = ALIKE if weight else UNLIKE
        found.append(Metric(f"{kind}, weight {weight:g}: intersection over union", shared, bound, below=not weight))
    return found


def hollows(drawer: Drawer, family: Family, count: int, steps: int = 30) -> list[Metric]:
    """Gate 6: how solid solid things are by the LoRA's scale, and that at 0 it does nothing."""
    said = solid(count)

    def spec(at: int, *loras: Lora) -> Spec:
        return guided(said[at], SIDE, at, steps=steps, loras=loras)

    def pictures(scale: float) -> list[Pixels]:
        lora = Lora(source=names.OUTLINES, scale=scale)
        return drawn(drawer, family.catalogue, [spec(at, lora) for at in range(count)])

    def alone(at: int, *loras: Lora) -> Pixels:
        """In calls of its own: how many rows a call has shows in an answer's last bits."""
        return drawn(drawer, family.catalogue, [spec(at, *loras)])[0]

    nothing = Lora(source=names.OUTLINES, scale=0.0)
    same = [np.array_equal(alone(at, nothing), alone(at)) for at in range(COMPARED)]
    plain, half, whole = (sum(map(filled, pictures(scale))) / count for scale in (0.0, 0.5, 1.0))
    return [
        Metric("style LoRA, scale 0: share of pictures as without it", sum(same) / len(same), 1.0),
        Metric("style LoRA, scale 0: share filled", plain, 0.95),
        Metric("style LoRA, scale 0.5: share filled", half, plain, below=True),
        Metric("style LoRA, scale 1: share filled", whole, min(half, 0.75), below=True),
    ]


def placeless(count: int) -> tuple[list[Scene], list[str]]:
    """Held-out scenes of one thing, and captions that say nothing of size and place."""
    chance = random.Random(98)
    scenes = [scene for scene in (any_scene(chance) for _ in range(4 * count)) if len(scene.things) == 1][:count]
    return scenes, [caption(scene, chance, sited=False) for scene in scenes]


def overlap(shown: list[Pixels], pictures: list[Pixels]) -> float:
    """Intersection over union of where things are and where the pictures that were shown have them, on average."""
    shares = []
    for one, other in zip(shown, pictures, strict=True):
        found, wanted = standing_out(other), standing_out(one)
        shares.append(float((found & wanted).sum() / max(1, (found | wanted).sum())))
    return sum(shares) / len(shares)
