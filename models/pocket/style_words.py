"""The words with which the pocket model's prompt expansion embellishes prompts."""

OPPOSITES = (
    ("bright", "dark"),
    ("warm", "cold"),
    ("soft", "sharp"),
    ("calm", "dramatic"),
    ("modern", "ancient"),
    ("smooth", "rough"),
    ("glossy", "matte"),
    ("minimal", "intricate"),
    ("cheerful", "gloomy"),
    ("quiet", "loud"),
    ("heavy", "light"),
    ("dreamy", "realistic"),
    ("elegant", "playful"),
    ("vivid", "pale"),
    ("wild", "tidy"),
    ("deep", "flat"),
)
"""No text has both of a pair."""
OTHERS = tuple(
    (
        "beautiful detailed cinematic professional artistic creative inspired perfect amazing lovely charming magical "
        "epic famous favorite fresh clean clear balanced harmonious expressive iconic colorful illustrated polished "
        "crafted atmospheric radiant glowing luminous textured layered"
    ).split()
)
STYLE_WORDS = (*(word for pair in OPPOSITES for word in pair), *OTHERS)
"""All of them, as the word list beside the language model has them."""


def opposite(word: str) -> str | None:
    """The word that would contradict it, if there is one."""
    for one, other in OPPOSITES:
        if word in (one, other):
            return other if word == one else one
    return None
