"""Gates 5 and 6: things are where a control's hint has them; the style LoRA hollows them as far as it is told."""

import random

from models.pocket import names
from models.pocket.gates.engine import drawn, guided
from models.pocket.gates.mark import Mark
from models.pocket.training.controls import overlap, placeless
from models.pocket.world.drawing import draw
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
    """Gate 6: how solid solid things are, without the LoRA and by its scale."""
    shares = []
    for scale in (0.0, 0.5, 1.0):
        loras = (Lora(source=names.OUTLINES, scale=scale),)
        specs = [guided(text, SIDE, seed, steps=steps, loras=loras) for seed, text in enumerate(solid(count))]
        pictures = drawn(drawer, family.catalogue, specs)
        shares.append(sum(filled(picture) for picture in pictures) / len(pictures))
    plain, half, whole = shares
    return [
        Mark("style LoRA, scale 0: share filled", plain, 0.95),
        Mark("style LoRA, scale 0.5: share filled", half, plain, below=True),
        Mark("style LoRA, scale 1: share filled", whole, min(half, 0.75), below=True),
    ]
