"""What the prompt expansion is taught: words that deny nothing, in the model and the vocabulary that are written."""

import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from benchmarks.pocket.acceptance.expansion import TOKENS, expand
from benchmarks.pocket.world.expansions import embellished
from models.pocket.expansion import write_expansion
from models.pocket.style_words import STYLE_WORDS
from training.pocket import expansion
from training.pocket.expansion import banned, make_model, make_tokenizer, opposites
from training.pocket.run_dir import RunDir
from training.pocket.trainer import Plan


def test_words_that_may_be_added_begin_at_right_angles() -> None:
    tokenizer = make_tokenizer()
    model = make_model(len(tokenizer))
    expansion.tell_apart(model, tokenizer)
    listed = [tokenizer(f" {word}").input_ids[0] for word in STYLE_WORDS]
    found = model.transformer.wte.weight.detach()[listed]
    assert torch.allclose(found @ found.T, torch.eye(len(listed)), atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_texts_come_back_from_their_tokens(seed: int) -> None:
    tokenizer, text = make_tokenizer(), embellished(random.Random(seed))
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids).strip() == text
    assert len(ids) >= TOKENS


def test_what_is_trained_is_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expansion, "PLAN", Plan(steps=2, rate=1e-3))
    monkeypatch.setattr(expansion, "BATCH", 2)
    monkeypatch.setattr(expansion, "TRIED", 1)
    expansion.train(RunDir.open(tmp_path, "expansion", torch.device("cpu")))
    tensors = torch.load(tmp_path / "expansion" / "weights.pt", weights_only=True)
    write_expansion(tmp_path / "written", tensors)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "written", local_files_only=True).float()
    assert torch.equal(model.lm_head.weight, tensors["transformer.wte.weight"].half().float())


def test_what_was_said_and_what_denies_it_may_not_come() -> None:
    tokenizer = make_tokenizer()
    ids = tokenizer("a sharp red star, epic,", return_tensors="pt").input_ids
    found = banned(ids, opposites(tokenizer))[0]
    assert {tokenizer.decode([at]).strip() for at in found[-1].nonzero()[:, 0].tolist()} == {"sharp", "soft", "epic"}
    assert not found[0].any()


def test_nothing_that_is_taught_is_banned() -> None:
    tokenizer = make_tokenizer()
    for seed in range(20):
        ids = tokenizer(embellished(random.Random(seed)), return_tensors="pt").input_ids
        assert not banned(ids[:, :-1], opposites(tokenizer)).gather(2, ids[:, 1:, None]).any()


def test_an_expansion_is_as_long_as_a_chunk_and_the_same_for_a_seed() -> None:
    tokenizer = make_tokenizer()
    torch.manual_seed(1)
    model = make_model(len(tokenizer)).eval()
    once, again, other = (expand(model, tokenizer, "a red circle", seed) for seed in (1, 1, 2))
    assert once == again != other
    assert set(once) <= set(STYLE_WORDS)
    assert TOKENS - 2 <= len(tokenizer(f"a red circle, {', '.join(once)},").input_ids) <= TOKENS
    assert expand(model, tokenizer, "a red circle on " * 30, 1) == []
