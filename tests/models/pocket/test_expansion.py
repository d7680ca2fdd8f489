"""The prompt expansion's files: loaded by transformers, with a token for each word that may be added."""

import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.pocket.world.expansions import embellished
from models.pocket.embellishments import EMBELLISHMENTS
from models.pocket.expansion import LONGEST, WORD_LIST, make_model, make_tokenizer, write_expansion
from models.pocket.words import ENDINGS, NAMES, OPENINGS, PLACE_WORDS, SIZE_WORDS
from training.pocket import expansion
from training.pocket.course import Plan
from training.pocket.expansion import TOKENS, banned, expand, opposites, score
from training.pocket.session import Session


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tensors = make_model(len(make_tokenizer())).state_dict()
    tensors.pop("lm_head.weight")
    write_expansion(tmp_path / "expansion", tensors)
    return tmp_path / "expansion"


def test_what_is_written_is_loaded_with_every_weight(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert type(model).__name__ == "GPT2LMHeadModel"
    assert not any(parameter.is_meta for parameter in model.parameters())
    assert model.config.vocab_size == len(tokenizer)
    assert tokenizer.model_max_length == LONGEST
    ids = tokenizer("a red circle,", return_tensors="pt").input_ids
    assert model(ids).logits.shape == (1, 4, len(tokenizer))
    assert torch.equal(model.lm_head.weight, model.transformer.wte.weight)


def test_words_that_may_be_added_begin_at_right_angles() -> None:
    tokenizer = make_tokenizer()
    model = make_model(len(tokenizer))
    expansion.tell_apart(model, tokenizer)
    listed = [tokenizer(f" {word}").input_ids[0] for word in EMBELLISHMENTS]
    found = model.transformer.wte.weight.detach()[listed]
    assert torch.allclose(found @ found.T, torch.eye(len(listed)), atol=1e-5)


def test_every_word_of_captions_and_of_the_list_is_one_token(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    listed = (folder / WORD_LIST).read_text().split()
    assert tuple(listed) == EMBELLISHMENTS
    said = [*OPENINGS, *ENDINGS]
    for table in (NAMES, SIZE_WORDS, PLACE_WORDS):
        said += [saying for several in table.values() for saying in several]
    spoken = {word for saying in said for word in saying.split()}
    assert {word for word in {*listed, *spoken} if len(tokenizer(f" {word}").input_ids) > 1} == set()


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
    expansion.train(Session.open(tmp_path, "expansion", torch.device("cpu")))
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
    assert set(once) <= set(EMBELLISHMENTS)
    assert TOKENS - 2 <= len(tokenizer(f"a red circle, {', '.join(once)},").input_ids) <= TOKENS
    assert expand(model, tokenizer, "a red circle on " * 30, 1) == []


def test_the_score_knows_denials_and_repetitions() -> None:
    found = score(["a sharp star", "a ring"], [["soft", "epic", "epic", "loud", "deep"], []])
    assert found == {"adds": 0.5, "opposes": 0.2, "repeats": 0.2}
