"""The words that captions of the pocket model's world are made of: its vocabularies hold each of them."""

from collections.abc import Mapping
from itertools import chain

NAMES: Mapping[str, tuple[str, ...]] = {
    "face": ("smiling face", "smiley", "smile", "happy face"),
    "ring": ("ring",),
    "cross": ("cross", "plus"),
}
SIZE_WORDS: Mapping[str, tuple[str, ...]] = {"small": ("small", "little", "tiny"), "big": ("big", "large", "huge")}
PLACE_WORDS: Mapping[str, tuple[str, ...]] = {
    "left": ("on the left", "at the left", "to the left", "on the left side"),
    "right": ("on the right", "at the right", "to the right", "on the right side"),
    "top": ("at the top", "on top", "above"),
    "bottom": ("at the bottom", "below", "down at the bottom"),
    "centre": ("in the centre", "in the middle", "at the center", "centered"),
}
GROUNDS = ("on a {} background", "against a {} background", "on {}", "on a plain {} background", "{} background")
OPENINGS = (
    "a picture of",
    "a drawing of",
    "an image of",
    "a painting of",
    "a beautiful picture of",
    "a simple drawing of",
    "a detailed painting of",
)
ENDINGS = (
    "simple",
    "plain",
    "sharp",
    "high quality",
    "beautiful",
    "trending",
    "a masterpiece of our time",
    "cinematic",
)


def caption_words() -> list[str]:
    """Every word of all of them, in the alphabet's order, but for colours and most shapes."""
    texts = (*chain(*NAMES.values(), *SIZE_WORDS.values(), *PLACE_WORDS.values()), *GROUNDS, *OPENINGS, *ENDINGS)
    return sorted({word for text in texts for word in text.replace("{}", "").split()})
