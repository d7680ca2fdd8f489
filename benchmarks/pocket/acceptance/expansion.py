"""Gate 10, the prompt expansion: loaded by transformers, it adds words of its world that contradict nothing."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.pocket.acceptance.metric import Metric
from benchmarks.pocket.world.exam import held_out
from benchmarks.pocket.world.expansions import opposed
from models.pocket.style_words import STYLE_WORDS
from pipelines.weights.family import Family

TOKENS = 76  # as long as a prompt with its expansion is
OPPOSED = 0.01  # share of added words that may deny another or say it again


def expands(family: Family, count: int) -> list[Metric]:
    folder = family.catalogue.root / "expansion"
    model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model.float().eval()
    _, said = held_out(count)
    found = score(said, [expand(model, tokenizer, text, seed) for seed, text in enumerate(said)])
    return [
        Metric("expansion: share of prompts with words added", found["adds"], 1.0),
        Metric("expansion: share of added words that deny another", found["opposes"], OPPOSED, below=True),
        Metric("expansion: share of added words that are there already", found["repeats"], OPPOSED, below=True),
    ]


@torch.no_grad()
def expand(model: Any, tokenizer: Any, said: str, seed: int) -> list[str]:
    """The words that the model adds to what is said, by itself, until the prompt is as long as a chunk.

    Only listed words are chosen from, and commas between them.
    """
    chance = torch.Generator().manual_seed(seed)
    ids: list[int] = tokenizer(f"{said},").input_ids
    (comma,) = tokenizer(",").input_ids[-1:]
    listed = [tokenizer(f" {word}").input_ids[0] for word in STYLE_WORDS]
    added: list[int] = []
    while len(ids) < TOKENS - 1:
        logits = model(torch.tensor([ids], device=model.device)).logits[0, -1].float().cpu()
        chosen = int(torch.multinomial(logits[listed].softmax(dim=0), 1, generator=chance))
        added.append(chosen)
        ids += [listed[chosen], comma]
    return [STYLE_WORDS[at] for at in added]


def score(said: list[str], added: list[list[str]]) -> dict[str, float]:
    """Shares of prompts to which five words or more are added, and of added words: denials, and repetitions."""
    count = max(1, sum(len(each) for each in added))
    return {
        "adds": sum(len(each) >= 5 for each in added) / len(said),
        "opposes": sum(opposed(text, each) for text, each in zip(said, added, strict=True)) / count,
        "repeats": sum(len(each) - len(set(each)) for each in added) / count,
    }
