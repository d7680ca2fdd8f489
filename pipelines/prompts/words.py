"""Which of a language model's words may follow a prompt: whole, plain, listed ones, and none that is there already."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import WeightsFault

MAX_LETTERS = 32

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_ENDS = re.compile(r"[,.;!?\n]+")
_PARTS = re.compile(r"[\s,]+")

WordList = Path | tuple[str, ...]
"""Words, or a UTF-8 file of them, a word or several a line."""


@dataclass(frozen=True, slots=True)
class WordFilter:
    """allowed: the only words that may be added; None for all. blocked: those that may not. Both in lower case."""

    allowed: frozenset[str] | None = None
    blocked: frozenset[str] = frozenset()

    def phrases(self, said: str, written: str, *, whole: bool) -> tuple[str, ...]:
        """The phrases of what a model has written after `said` that may be added, in their order.

        Commas, the ends of sentences and of lines part phrases. One with a word that may not be added is left out as a
        whole, for what is left of it would say something else: a word that stands in `said` or before, that is blocked
        or not allowed, or that is not of letters, digits, hyphens and apostrophes alone, so that nothing of what a
        prompt's syntax means something by (weights, wildcards, LoRA tags) can come in.
        whole: whether it ended of itself; otherwise its last phrase, or last word where there is one phrase, may be a
        fragment and is left out.
        """
        ended = written if whole else _without_fragment(written)
        seen = {word.lower() for word in _WORD.findall(said)}
        found = []
        for phrase in _ENDS.split(ended):
            words = phrase.split()
            lower = [word.lower() for word in words]
            if words and len(set(lower)) == len(lower) and all(map(self._may_follow, words)) and not seen & {*lower}:
                seen.update(lower)
                found.append(" ".join(words))
        return tuple(found)

    def _may_follow(self, word: str) -> bool:
        lower = word.lower()
        listed = self.allowed is None or lower in self.allowed
        return listed and lower not in self.blocked and is_word(word)


def is_word(text: str) -> bool:
    """Whether it is one word: letters and digits, not digits alone, joined by hyphens and apostrophes."""
    return len(text) <= MAX_LETTERS and _WORD.fullmatch(text) is not None and not text.isdecimal()


def read_words(source: WordList) -> frozenset[str]:
    """The words of a list in lower case. Raises WeightsFault for a file that cannot be read."""
    if not isinstance(source, Path):
        return _words(source)
    try:
        return _words(source.read_text("utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError) as fault:
        raise WeightsFault(f"The list of words {source} cannot be read: {fault}.") from fault


def _words(lines: Sequence[str]) -> frozenset[str]:
    return frozenset(word.lower() for line in lines for word in _PARTS.split(line) if word)


def _without_fragment(written: str) -> str:
    ends = [*_ENDS.finditer(written)]
    if ends:
        return written[: ends[-1].start()]
    return written.rpartition(" ")[0]
