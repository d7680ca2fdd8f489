"""The pocket family's prompt expansion: a GPT-2 over the words of its world, in the files that published ones have."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor
from transformers import GPT2Config

from models.pocket.style_words import STYLE_WORDS
from models.pocket.tokenizer import WORDS, byte_symbols, merges_of
from models.pocket.words import ENDINGS, GROUNDS, NAMES, OPENINGS, PLACE_WORDS, SIZE_WORDS
from models.pocket.write_adapters import save

END = "<|endoftext|>"
SPACE = "Ġ"  # what GPT-2's byte-level vocabulary writes for the space before a word
WORD_LIST = "positive.txt"  # of what may be added, a word a line
LONGEST = 128  # tokens that it can read; it is taught to fill the 75 of a chunk, and adds nothing to longer prompts
MOST = 10_000  # merges: as many as join every word
GPT: Mapping[str, Any] = MappingProxyType(
    {
        "n_positions": LONGEST,
        "n_embd": 128,
        "n_layer": 2,
        "n_head": 8,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "resid_pdrop": 0.0,
    }
)


def make_config(vocabulary: int) -> GPT2Config:
    """The end token is the last of the vocabulary."""
    end = vocabulary - 1
    return GPT2Config(vocab_size=vocabulary, bos_token_id=end, eos_token_id=end, pad_token_id=end, **GPT)


def write_expansion(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """The model as transformers loads it, its tokenizer, and the list of words."""
    folder.mkdir()
    size = write_vocabulary(folder)
    (folder / "config.json").write_text(make_config(size).to_json_string(use_diff=False))
    save(tensors, folder / "model.safetensors")
    (folder / WORD_LIST).write_text("\n".join(STYLE_WORDS) + "\n")


def write_vocabulary(folder: Path) -> int:
    """Write the files of the tokenizer, in which every word is one token; returns the size of its vocabulary."""
    symbols = byte_symbols()
    merges = merges_of([(SPACE, *word) for word in _spoken()], MOST)
    tokens = [*symbols, *(one + other for one, other in merges), END]
    vocabulary = {token: at for at, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{one} {other}" for one, other in merges), ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    specials = {"bos_token": END, "eos_token": END, "unk_token": END, "pad_token": END}
    about = {"tokenizer_class": "GPT2Tokenizer", "model_max_length": LONGEST, "add_prefix_space": True, **specials}
    (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=2))
    (folder / "special_tokens_map.json").write_text(json.dumps(specials, indent=2))
    return len(tokens)


def _spoken() -> list[str]:
    """All words, each once, in a fixed order."""
    sayings = [*WORDS, *STYLE_WORDS, *OPENINGS, *ENDINGS, *(ground.format("") for ground in GROUNDS)]
    for table in (NAMES, SIZE_WORDS, PLACE_WORDS):
        sayings += [saying for several in table.values() for saying in several]
    return list(dict.fromkeys(word for saying in sayings for word in saying.split()))
