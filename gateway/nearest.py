"""What a misspelt name may have meant: the nearest of those that are known."""

from collections.abc import Iterable
from difflib import get_close_matches

MAX_SPELT = 100  # characters of a name for which nearest ones are looked for
NEAR = 0.7  # from 0, nothing in common, to 1, the same letters in the same order


def nearest(given: str, known: Iterable[str], most: int = 1, near: float = NEAR) -> list[str]:
    """Up to `most` names of `known`, the nearest first. Case and what stands between words make no difference."""
    if len(given) > MAX_SPELT:
        return []
    spelt = {_letters(name): name for name in known if len(name) <= MAX_SPELT}
    return [spelt[letters] for letters in get_close_matches(_letters(given), spelt, n=most, cutoff=near)]


def _letters(name: str) -> str:
    return "".join(each for each in name.lower() if each.isalnum())
