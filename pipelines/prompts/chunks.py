"""Chunks: a prompt of any length as rows of the 77 tokens that a CLIP text model reads (fooocus-facts 3.5)."""

from collections.abc import Callable, Sequence

from pipelines.prompts.emphasis import parse_emphasis

CHUNK = 75  # the tokens of a row between its start and its end token
LONG_WORD = 8  # a word of this many tokens may be cut at the end of a row; a shorter one moves to the next

Token = tuple[int, float]
Tokenise = Callable[[str], Sequence[int]]


def chunk(text: str, tokenise: Tokenise) -> list[list[Token]]:
    """The (token, weight) pairs of a prompt in rows of at most 75; at least one row, which may be empty.

    tokenise: the ids of one word, without start and end tokens.
    """
    rows: list[list[Token]] = [[]]
    for piece, weight in parse_emphasis(text):
        for word in piece.split(" "):
            ids = list(tokenise(word)) if word else []
            if len(ids) < LONG_WORD and len(rows[-1]) + len(ids) > CHUNK:
                rows.append([])
            while ids:
                room = CHUNK - len(rows[-1])
                if room == 0:
                    rows.append([])
                    continue
                rows[-1].extend((token, weight) for token in ids[:room])
                ids = ids[room:]
    return rows
