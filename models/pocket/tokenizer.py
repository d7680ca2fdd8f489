"""The pocket model's tokenizers: CLIP's byte-pair format over a small vocabulary."""

import json
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from models.pocket.words import caption_words

START, END = "<|startoftext|>", "<|endoftext|>"
MERGES = 320
MORE = 2_000  # merges: as many as join every other word, as far as those of the world's words let them
WORDS = tuple(
    (
        "a an the of on in at with and to is no one two small big tiny large bright dark plain simple picture drawing "
        "photo image painting background left right top bottom centre center middle corner side above below beside "
        "near red orange yellow green blue purple pink brown black white gray grey cyan magenta circle square "
        "triangle star ring cross heart face smile smiling smiley eyes mouth shape filled outline outlined sky sea "
        "island light house moon boat cat dog tree mountain portrait landscape detailed beautiful colour color soft "
        "sharp cinematic"
    ).split()
)


def vocabulary() -> tuple[dict[str, int], list[str]]:
    """Token -> id, and the merges in their order.

    The tokens are the 256 byte symbols, the same ending a word, the merges, and two specials. The merges of the world's
    words came first, and the text encoders learned to read them; those of the words that styles and the expansion write
    leave the spelling of each word of a caption as it was.
    """
    symbols, merges = byte_symbols(), _merges()
    tokens = [*symbols, *(symbol + "</w>" for symbol in symbols), *(a + b for a, b in merges), START, END]
    return {token: at for at, token in enumerate(tokens)}, [f"{a} {b}" for a, b in merges]


def write_tokenizer(folder: Path, *, second: bool) -> int:
    """Write the files of one tokenizer; returns the size of its vocabulary. The second pads with token 0."""
    folder.mkdir(parents=True)
    ids, merges = vocabulary()
    pad = next(token for token, at in ids.items() if at == 0) if second else END
    (folder / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    specials = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad}
    (folder / "special_tokens_map.json").write_text(json.dumps(specials, indent=2))
    about = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True, **specials}
    (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=2))
    return len(ids)


def byte_symbols() -> list[str]:
    """A printable character for each byte, printable bytes first: the order of CLIP's and GPT-2's vocabularies."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + at) for at in range(len(others))]


def _merges() -> Sequence[tuple[str, str]]:
    first = merges_of(map(_spelled, WORDS), MERGES)
    read = [_with_merges(_spelled(word), first) for word in caption_words()]
    others = (_with_merges(_spelled(word), first) for word in prompt_words())
    return (*first, *merges_of(others, MORE, apart={pair for word in read for pair in pairwise(word)}))


def prompt_words() -> list[str]:
    """Other words that prompts often have: those of styles and of the expansion."""
    return (Path(__file__).parent / "prompt_words.txt").read_text(encoding="ascii").split()


def merges_of(
    words: Iterable[tuple[str, ...]], most: int, apart: Container[tuple[str, str]] = ()
) -> list[tuple[str, str]]:
    """Pairs of symbols to join, `most` of them or until every word is one symbol. apart: those never to be joined.

    The most frequent pair first, joined everywhere, and again; ties go to the pair that sorts first.
    """
    words = list(words)
    merges: list[tuple[str, str]] = []
    while len(merges) < most:
        pairs = Counter(pair for word in words for pair in pairwise(word) if pair not in apart)
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = [joined for word in words if len(joined := _joined(word, best)) > 1]
    return merges


def _spelled(word: str) -> tuple[str, ...]:
    return (*word[:-1], word[-1] + "</w>")


def _with_merges(word: tuple[str, ...], merges: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    for pair in merges:
        word = _joined(word, pair)
    return word


def _joined(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    found: list[str] = []
    for symbol in word:
        if found and (found[-1], symbol) == pair:
            found[-1] += symbol
        else:
            found.append(symbol)
    return tuple(found)
