"""The prompt expansion's files: loaded by transformers, with a token for each word that may be added."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.pocket.expansion import LONGEST, WORD_LIST, write_expansion
from models.pocket.style_words import STYLE_WORDS
from models.pocket.trained import trained
from models.pocket.words import ENDINGS, NAMES, OPENINGS, PLACE_WORDS, SIZE_WORDS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_expansion(tmp_path / "expansion", trained("expansion"))
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


def test_every_word_of_captions_and_of_the_list_is_one_token(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    listed = (folder / WORD_LIST).read_text().split()
    assert tuple(listed) == STYLE_WORDS
    said = [*OPENINGS, *ENDINGS]
    for table in (NAMES, SIZE_WORDS, PLACE_WORDS):
        said += [saying for several in table.values() for saying in several]
    spoken = {word for saying in said for word in saying.split()}
    assert {word for word in {*listed, *spoken} if len(tokenizer(f" {word}").input_ids) > 1} == set()
