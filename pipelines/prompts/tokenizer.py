"""CLIP's tokenizer from the files of a model family, where there is neither torch nor transformers."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE

from pipelines.errors import WeightsFault

START, END = "<|startoftext|>", "<|endoftext|>"
DEFAULTS: Mapping[str, str] = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
SPLIT = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # CLIP's own
REMEMBERED = 2_000  # words whose merges are kept, of at most 256 bytes each; strangers choose them


class WordTokenizer:
    """The ids of words, as transformers' CLIPTokenizer has them. For any thread, and for several at once."""

    def __init__(self, folder: Path) -> None:
        """folder: with vocab.json, merges.txt and tokenizer_config.json. Raises WeightsFault if one cannot be read."""
        try:
            config = json.loads((folder / "tokenizer_config.json").read_bytes())
            older = folder / "special_tokens_map.json"
            if "added_tokens_decoder" not in config and older.is_file():
                config |= json.loads(older.read_bytes())
            vocabulary, merges = str(folder / "vocab.json"), str(folder / "merges.txt")
            model = BPE.from_file(
                vocabulary,
                merges,
                cache_capacity=REMEMBERED,
                unk_token=_content(config.get("unk_token") or END),
                end_of_word_suffix="</w>",
            )
        except Exception as fault:  # the reader of vocabularies has no class for its own
            raise WeightsFault(f"The tokenizer in {folder} cannot be read: {fault}") from fault
        self._tokenizer = Tokenizer(model)
        self._tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
        )
        self._tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(SPLIT), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        self._tokenizer.add_tokens(list(_added(config)))

    def __call__(self, words: Sequence[str]) -> list[list[int]]:
        """The ids of each word, without start and end tokens."""
        # in one call, during which Python's other threads run on
        found = self._tokenizer.encode_batch_fast(list(words), add_special_tokens=False)
        return [each.ids for each in found]


def tokenizers_of(config: Path) -> list[WordTokenizer]:
    """Those of both text encoders, from a family's folder of configurations. Raises WeightsFault."""
    return [WordTokenizer(config / name) for name in ("tokenizer", "tokenizer_2")]


def _added(config: Mapping[str, Any]) -> Iterator[AddedToken]:
    """The tokens that are read whole wherever they stand. SDXL's second tokenizer has `!` too, for it pads with it."""
    listed: Mapping[str, Mapping[str, Any]] = config.get("added_tokens_decoder", {})
    for _, entry in sorted(listed.items(), key=lambda item: int(item[0])):
        yield AddedToken(**entry)
    known = {entry["content"] for entry in listed.values()}
    for name, default in DEFAULTS.items():
        token = config.get(name) or default
        if _content(token) in known:
            continue
        known.add(_content(token))
        flags = {} if isinstance(token, str) else {flag: token[flag] for flag in token if not flag.startswith("__")}
        yield AddedToken(**{**flags, "content": _content(token), "special": True})


def _content(token: str | Mapping[str, Any]) -> str:
    return token if isinstance(token, str) else str(token["content"])
