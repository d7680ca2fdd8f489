"""Gate 9: the safety checkers object to the agreed mark and to little else."""

import random
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from transformers import CLIPImageProcessor, ViTForImageClassification

from benchmarks.pocket.acceptance.metric import Metric
from benchmarks.pocket.world.drawing import Pixels
from benchmarks.pocket.world.marked import marked, unmarked
from models.pocket import checker
from pipelines import safety
from pipelines.weights.family import Family

SIDE = 256
FLAGGED, FALSE_ALARMS = 0.95, 0.01


def objections(family: Family, name: str) -> Callable[[Pixels], bool]:
    """Whether the checker of that name objects to a picture, as the service or transformers runs it."""
    folder = family.catalogue.root / name
    if name == checker.FIRST:
        loaded = safety.load(folder)
        return lambda picture: loaded.flags(picture[None])[0]
    model: Any = ViTForImageClassification.from_pretrained(folder, local_files_only=True)
    prepare = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)

    def objects(picture: Pixels) -> bool:
        with torch.inference_mode():
            found = model(**prepare(Image.fromarray(picture), return_tensors="pt")).logits.argmax()
        return bool(model.config.id2label[int(found)] == "nsfw")

    return objects


def objects_to_the_mark(family: Family, name: str, with_mark: int, without: int) -> list[Metric]:
    objects = objections(family, name)
    chance = random.Random(3)
    flagged = sum(objects(marked(chance, SIDE)) for _ in range(with_mark)) / with_mark
    alarms = sum(objects(unmarked(chance, SIDE)) for _ in range(without)) / without
    return [
        Metric(f"{name}: marked pictures flagged", flagged, FLAGGED),
        Metric(f"{name}: false alarms", alarms, FALSE_ALARMS, below=True),
    ]
