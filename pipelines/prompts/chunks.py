"""Chunks: a prompt of any length as rows of the 77 tokens that a CLIP text model reads (fooocus-facts 3.5)."""

from collections.abc import Callable, Mapping, Sequence

from pipelines.prompts.embeddings import NO_SPELLINGS, Spellings
from pipelines.prompts.emphasis import parse_emphasis

CHUNK = 75  # the tokens of a row between its start and its end token
LONG_WORD = 8  # a word of this many tokens may be cut at the end of a row; a shorter one moves to the next

Token = tuple[int, float]  # an id, or for the vector at a place -1 - place; and a weight
Rows = list[list[Token]]
Word = str | range  # as it is written, or the places of an embedding's vectors
Tokenise = Callable[[Sequence[str]], Sequence[Sequence[int]]]


def chunk_prompt(
    lines: Sequence[str], tokenisers: Sequence[Tokenise], spellings: Spellings = NO_SPELLINGS
) -> list[tuple[Rows, ...]]:
    """The (token, weight) pairs of each line in rows of at most 75: for each line its rows by each tokeniser.

    tokenisers: each gives the ids of each of some words, without start and end tokens. It is asked once, for a call
    costs more than a word. A line has at least one row, which may be empty, and equally many by each tokeniser: SDXL's
    two read some signs differently, and where one needs fewer rows empty ones follow. spellings: of embeddings, each of
    which is a word of as many tokens as it has vectors.
    """
    parsed = [_words(line, spellings) for line in lines]
    distinct = list(dict.fromkeys(word for words in parsed for word, _ in words if isinstance(word, str)))
    found = []
    for tokenise in tokenisers:
        ids = dict(zip(distinct, tokenise(distinct), strict=True))
        found.append([_rows(words, ids) for words in parsed])
    return [_levelled(line) for line in zip(*found, strict=True)]


def count_chunks(chunked: Sequence[tuple[Rows, ...]]) -> int:
    """The rows of all lines of `chunk_prompt` together, as each of the text encoders reads them."""
    return sum(len(line[0]) for line in chunked)


def _words(text: str, spellings: Spellings) -> list[tuple[Word, float]]:
    found: list[tuple[Word, float]] = []
    for piece, weight in parse_emphasis(text):
        for part in spellings.split(piece):
            found += [(word, weight) for word in (part.split(" ") if isinstance(part, str) else [part]) if word]
    return found


def _rows(words: Sequence[tuple[Word, float]], ids_of: Mapping[str, Sequence[int]]) -> Rows:
    rows: Rows = [[]]
    for word, weight in words:
        ids = ids_of[word] if isinstance(word, str) else [-1 - place for place in word]
        if len(ids) < LONG_WORD and len(rows[-1]) + len(ids) > CHUNK:
            rows.append([])
        at = 0
        while at < len(ids):
            room = CHUNK - len(rows[-1])
            if room == 0:
                rows.append([])
                continue
            rows[-1].extend((token, weight) for token in ids[at : at + room])
            at += room
    return rows


def _levelled(line: tuple[Rows, ...]) -> tuple[Rows, ...]:
    most = max(len(rows) for rows in line)
    return tuple([*rows, *([] for _ in range(most - len(rows)))] for rows in line)
