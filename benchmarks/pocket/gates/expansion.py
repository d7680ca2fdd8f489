"""Gate 10, the prompt expansion: loaded by transformers, it adds words of its world that contradict nothing."""

from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.pocket.gates.mark import Mark
from benchmarks.pocket.world.exam import held_out
from pipelines.weights.family import Family
from training.pocket.expansion import expand, score

OPPOSED = 0.01  # share of added words that may deny another or say it again


def expands(family: Family, count: int) -> list[Mark]:
    folder = family.catalogue.root / "expansion"
    model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model.float().eval()
    _, said = held_out(count)
    found = score(said, [expand(model, tokenizer, text, seed) for seed, text in enumerate(said)])
    return [
        Mark("expansion: share of prompts with words added", found["adds"], 1.0),
        Mark("expansion: share of added words that deny another", found["opposes"], OPPOSED, below=True),
        Mark("expansion: share of added words that are there already", found["repeats"], OPPOSED, below=True),
    ]
