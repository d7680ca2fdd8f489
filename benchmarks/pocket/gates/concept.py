"""Gate 10, the textual inversion: its token draws its concept, and vectors of nothing do not."""

import torch
from safetensors.torch import load_file

from benchmarks.pocket.gates.mark import Mark
from benchmarks.pocket.gates.prompts import WANTED
from models.pocket import names
from pipelines.weights.family import Family
from training.pocket.concept import KEYS, score
from training.pocket.lessons import Reader

BY_CHANCE = 0.3


def draws_its_concept(family: Family, count: int, steps: int = 30) -> list[Mark]:
    reader = Reader(family.tokenizers[0], family.text_encoders)
    stored = load_file(family.catalogue.root / "embeddings" / names.CONCEPT)
    vectors = [stored[key].float() for key in KEYS]
    found = score(reader, family.unet, vectors, count, steps)
    without = score(reader, family.unet, [torch.zeros_like(own) for own in vectors], count, steps)
    drawn = [Mark(f"concept: {name}", found[name], least) for name, least in WANTED.items()]
    return [*drawn, Mark("vectors of nothing: colour", without["colour"], BY_CHANCE, below=True)]
