"""Trains the language model of the prompt expansion: which words may follow, given all that was said.

Beside what comes next it is taught what may not come (unlikelihood training, Welleck et al. 2019): from likelihood
alone it learns that a denial is rare, but not that there is none.
"""

import random
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import GPT2LMHeadModel, GPT2Tokenizer

from benchmarks.pocket.acceptance.expansion import TOKENS, expand, score
from benchmarks.pocket.world.exam import held_out
from benchmarks.pocket.world.expansions import embellished
from models.pocket.expansion import make_config, write_vocabulary
from models.pocket.style_words import STYLE_WORDS, opposite
from training.pocket.run_dir import RunDir
from training.pocket.trainer import Plan, follow

BATCH = 64
PLAN = Plan(steps=3_000, rate=2e-3, examined=250)
UNLIKELY = 3.0  # what the share of words that may not come counts for
TRIED = 40


def train(run_dir: RunDir) -> None:
    """Leaves `weights.pt`, without the output layer, which is the input's, in the run's folder."""
    tokenizer = make_tokenizer()
    model: Any = make_model(len(tokenizer))
    tell_apart(model, tokenizer)
    model.to(run_dir.device)
    bans = opposites(tokenizer).to(run_dir.device)

    def lesson(chance: random.Random, side: int) -> Tensor:
        texts = [embellished(chance) for _ in range(BATCH)]
        ids = tokenizer(texts, truncation=True, max_length=TOKENS, return_tensors="pt").input_ids.to(run_dir.device)
        logits = model(ids[:, :-1]).logits.float()
        likely = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        wrong = (logits.softmax(dim=2) * banned(ids[:, :-1], bans)).sum(dim=2)
        loss: Tensor = likely - UNLIKELY * (1 - wrong).clamp(min=1e-6).log().mean()
        return loss

    def exam() -> Mapping[str, float]:
        _, said = held_out(TRIED)
        return score(said, [expand(model, tokenizer, text, seed) for seed, text in enumerate(said)])

    follow(run_dir, model, PLAN, lesson, exam)
    kept = {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    torch.save(kept, run_dir.folder / "weights.pt")


def make_model(vocabulary: int) -> GPT2LMHeadModel:
    """An untrained language model."""
    return GPT2LMHeadModel(make_config(vocabulary))


def make_tokenizer() -> GPT2Tokenizer:
    """Every word of captions, and every word that may be added, is one token with the space before it."""
    with tempfile.TemporaryDirectory() as folder:
        write_vocabulary(Path(folder))
        tokenizer: GPT2Tokenizer = GPT2Tokenizer.from_pretrained(folder, local_files_only=True)
    return tokenizer


@torch.no_grad()
def tell_apart(model: Any, tokenizer: Any) -> None:
    """Let the words that may be added begin at right angles, so that to rule one out says nothing of another."""
    listed = [tokenizer(f" {word}").input_ids[0] for word in STYLE_WORDS]
    embeddings = model.transformer.wte.weight
    nn.init.orthogonal_(apart := torch.empty(len(listed), embeddings.shape[1]))
    embeddings[listed] = apart


def opposites(tokenizer: Any) -> Tensor:
    """(tokens, tokens): 1 where the second, a word that may be added, may not come after the first."""
    found = torch.zeros(len(tokenizer), len(tokenizer))
    for word in STYLE_WORDS:
        for other in filter(None, (word, opposite(word))):
            (first,), (second,) = tokenizer(f" {other}").input_ids, tokenizer(f" {word}").input_ids
            found[first, second] = 1
    return found


def banned(ids: Tensor, bans: Tensor) -> Tensor:
    """(n, length, tokens) bool: what may not come next, at every place of (n, length) ids."""
    said = nn.functional.one_hot(ids, len(bans)).cumsum(dim=1).clamp(max=1)
    return said.to(bans.dtype) @ bans > 0
