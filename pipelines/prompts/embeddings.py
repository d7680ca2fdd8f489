"""Embeddings in prompts: the texts that stand for vectors, `embedding:NAME` and a client's own tokens.

fooocus-facts 3.5. What stands for a vector is the place of it in a table that the prompt is encoded with. Emphasis is
read first, so that a token is written as the prompt writes it: with `\\(` and `\\)` for its own parentheses.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from pipelines.errors import InputFault
from pipelines.prompts.emphasis import parse_emphasis
from pipelines.prompts.lines import prompt_lines

if TYPE_CHECKING:  # who encodes prompts needs no pydantic
    from pipelines.spec import Embedding

PREFIX = "embedding:"
# A name ends before what ends a clause. Parentheses in pairs that are left of reading the emphasis are its own.
_PAIR = r"\([^\s,()]*\)"
_NAMED = re.compile(rf"(?<!\w){PREFIX}((?:[^\s,()]|{_PAIR})*(?:[^\s,().:;!?]|{_PAIR}))")


@dataclass(frozen=True)
class Spellings:
    """Which texts stand for vectors. places: of each text as it is written, those of its vectors, in their order.

    `embedding:NAME` without a place is left out of the prompt, and so it is for who knows of none.
    """

    places: Mapping[str, range] = field(default_factory=dict)

    def split(self, text: str) -> Iterator[str | range]:
        """A text whose emphasis has been read, in its order: what is not spelt so, as it is, and the places of what
        is."""
        if not self.places and PREFIX not in text:
            yield text
            return
        end = 0
        for found in self._pattern.finditer(text):
            yield text[end : found.start()]
            yield self._read.get(found[0], range(0))
            end = found.end()
        yield text[end:]

    @cached_property
    def _read(self) -> Mapping[str, range]:
        return {_as_read(text): places for text, places in self.places.items()}

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self._read, key=len, reverse=True)
        return re.compile("|".join([_NAMED.pattern, *map(_whole, longest_first)]))


NO_SPELLINGS = Spellings()


def named_in(lines: Iterable[str]) -> list[str]:
    """The names of embeddings in the lines of a prompt, each once, in their order."""
    pieces = (piece for line in lines if PREFIX in line for piece, _ in parse_emphasis(line))
    return list(dict.fromkeys(found[1] for piece in pieces for found in _NAMED.finditer(piece)))


def spelt(name: str) -> str:
    """How a prompt names an embedding."""
    return PREFIX + written(name)


def written(name: str) -> str:
    """A name as a prompt writes it, so that its parentheses are no emphasis."""
    return re.sub(r"[()]", r"\\\g<0>", name)


def token_faults(embeddings: Iterable["Embedding"]) -> list[InputFault]:
    """One for each embedding with a token that is blank, stands for another one already, or can stand in no prompt."""
    taken: set[str] = set()
    found = []
    for embedding in embeddings:
        wrong = [token for token in embedding.tokens if not token.strip() or token in taken]
        twice = len(set(embedding.tokens)) < len(embedding.tokens)
        taken.update(embedding.tokens)
        if wrong or twice:
            msg = "Each token of an embedding should be a text that stands for nothing else"
            found.append(InputFault("value_error", msg, _tokens_field(embedding)))
        elif lost := [token for token in embedding.tokens if not can_stand(token)]:
            msg = (
                f"No prompt can hold the token {lost[0][:64]!r}: parentheses are emphasis there unless they are "
                r"written as \( and \), in the token as in the prompt, and line breaks and runs of spaces do not stay"
            )
            found.append(InputFault("value_error", msg, _tokens_field(embedding)))
    return found


def can_stand(token: str) -> bool:
    """Whether a prompt that holds a token still holds it when it is read, and it is not blank."""
    lines = prompt_lines(f"x{token}x")
    kept = [parse_emphasis(line) for line in lines] == [[(f"x{_as_read(token)}x", 1.0)]]
    return kept and bool(token.strip())


def deal(embedding: "Embedding", count: int, first: int) -> dict[str, range]:
    """The places of each token of an embedding with `count` vectors, the first of which is at `first`.

    One token stands for all vectors, and each of several for one vector where there is one. Otherwise they are dealt
    out in runs as equal as can be, so that the tokens one after another stand for all vectors. Raises InputFault where
    there are fewer of these than of tokens.
    """
    tokens = embedding.tokens
    if count == 1:
        return {token: range(first, first + 1) for token in tokens}
    if len(tokens) > count:
        msg = f"This embedding has {count} vectors, too few for {len(tokens)} tokens"
        raise InputFault("value_error", msg, _tokens_field(embedding))
    ends = [first + _share(count, at, len(tokens)) for at in range(len(tokens) + 1)]
    return {token: range(*ends[at : at + 2]) for at, token in enumerate(tokens)}


def _share(count: int, parts: int, of: int) -> int:
    """What the first `parts` of so many have of `count`; those at the front have more."""
    return -(-count * parts // of)


def _whole(token: str) -> str:
    """Matches a token, and not within a longer word."""
    edge = r"[A-Za-z0-9_]"
    before, after = (re.match(edge, each) is not None for each in (token[:1], token[-1:]))
    return (rf"(?<!{edge})" if before else "") + re.escape(token) + (rf"(?!{edge})" if after else "")


def _as_read(text: str) -> str:
    """What is left of a text when its emphasis is read."""
    return re.sub(r"\\([()])", r"\1", text)


def _tokens_field(embedding: "Embedding") -> str:
    head, dot, last = embedding.field.rpartition(".")
    return f"{head}.tokens" if dot and last == "path" else embedding.field
