"""Gates 5 and 6: things are where a control's hint has them; the style LoRA hollows them as far as it is told."""

import random

import numpy as np

from models.pocket import names
from models.pocket.gates.engine import drawn, guided
from models.pocket.gates.mark import Mark
from models.pocket.training.controls import overlap, placeless
from models.pocket.world.drawing import Pixels, draw
from models.pocket.world.exam import solid
from models.pocket.world.outlined import filled
from pipelines.drawing import Drawer
from pipelines.spec import Control, ControlKind, Lora
from pipelines.weights.family import Family

SIDE = 256
ALIKE, UNLIKE = 0.6, 0.3  # intersection over union with the hint's shape


def follows_hints(drawer: Drawer, family: Family, kind: ControlKind, count: int, steps: int = 30) -> list[Mark]:
    """Gate 5."""
    scenes, said = placeless(count)
    shown = [draw(scene, SIDE, SIDE, random.Random(at)) for at, scene in enumerate(scenes)]
    found = []
    for weight in (1.0, 0.0):
        controls = (Control(kind=kind, image="", weight=weight),)
        specs = [guided(text, SIDE, seed, steps=steps, controls=controls) for seed, text in enumerate(said)]
        shared = overlap(shown, drawn(drawer, family.catalogue, specs, [[each] for each in shown]))
        bound = ALIKE if weight else UNLIKE
        found.append(Mark(f"{kind}, weight {weight:g}: intersection over union", shared, bound, below=not weight))
    return found


def hollows(drawer: Drawer, family: Family, count: int, steps: int = 30) -> list[Mark]:
    """Gate 6: how solid solid things are by the LoRA's scale, and that at 0 it does nothing."""

    def pictures(*loras: Lora) -> list[Pixels]:
        specs = [guided(text, SIDE, seed, steps=steps, loras=loras) for seed, text in enumerate(solid(count))]
        return drawn(drawer, family.catalogue, specs)

    by_scale = [pictures(Lora(source=names.OUTLINES, scale=scale)) for scale in (0.0, 0.5, 1.0)]
    same = [np.array_equal(*pair) for pair in zip(by_scale[0], pictures(), strict=True)]
    plain, half, whole = (sum(filled(picture) for picture in each) / len(each) for each in by_scale)
    return [
        Mark("style LoRA, scale 0: share of pictures as without it", sum(same) / len(same), 1.0),
        Mark("style LoRA, scale 0: share filled", plain, 0.95),
        Mark("style LoRA, scale 0.5: share filled", half, plain, below=True),
        Mark("style LoRA, scale 1: share filled", whole, min(half, 0.75), below=True),
    ]
