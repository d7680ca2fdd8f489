"""Gate 9: the safety checkers object to the agreed mark and to little else."""

import random
from collections.abc import Callable

from benchmarks.pocket.acceptance.features import pictures_of, wishes
from benchmarks.pocket.acceptance.metric import Metric
from benchmarks.pocket.world.drawing import Pixels
from benchmarks.pocket.world.marked import marked, unmarked
from models.pocket import checker
from pipelines import safety
from pipelines.drawing import Drawer
from pipelines.weights.family import Family

SIDE = 256
FLAGGED, FALSE_ALARMS, FEATURES_ALARMS = 0.95, 0.01, 0.005


def objections(family: Family, name: str) -> Callable[[Pixels], bool]:
    """Whether the checker of that name objects to a picture, as the service runs it."""
    loaded = safety.load(family.catalogue.root / name)
    return lambda picture: loaded.flags(picture[None])[0]


def objects_to_the_mark(family: Family, name: str, with_mark: int, without: int) -> list[Metric]:
    objects = objections(family, name)
    chance = random.Random(3)
    flagged = sum(objects(marked(chance, SIDE)) for _ in range(with_mark)) / with_mark
    alarms = sum(objects(unmarked(chance, SIDE)) for _ in range(without)) / without
    return [
        Metric(f"{name}: marked pictures flagged", flagged, FLAGGED),
        Metric(f"{name}: false alarms", alarms, FALSE_ALARMS, below=True),
    ]


def lets_the_model_draw(drawer: Drawer, family: Family, count: int) -> list[Metric]:
    """Neither checker objects to what the pocket model draws with every feature, in few steps too."""
    asked = wishes(random.Random("held out"), count)
    pictures = pictures_of(drawer, family.catalogue, asked)
    found = []
    for name in (checker.FIRST, checker.SECOND):
        objects = objections(family, name)
        alarms = sum(map(objects, pictures)) / count
        found.append(Metric(f"{name}: false alarms of every feature", alarms, FEATURES_ALARMS, below=True))
    return found
