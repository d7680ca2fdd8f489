"""LoRA tags: `<lora:name:weight>` in the main line of a prompt, taken out of it (fooocus-facts 3.3)."""

import re
from dataclasses import dataclass

from pipelines.errors import InputFault

MAX_WEIGHT = 100.0

# a name has no colon and a piece no comma, so no text is looked through twice
_TAG = re.compile(r"<lora:([^:]+):([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))>")


@dataclass(frozen=True, slots=True)
class LoraTag:
    """A LoRA that a prompt names: by the stem of its file, which may be below a folder."""

    name: str
    weight: float


def take_lora_tags(line: str) -> tuple[str, list[LoraTag]]:
    """A line without its tags and with its commas made regular, and the tags in their order, each once.

    Commas are made regular without tags too: one comma and one space between pieces, none of which is empty. Raises
    InputFault `less_than_equal` or `greater_than_equal` with the field `prompt` for a weight beyond 100 or -100.
    """
    found: dict[LoraTag, None] = {}
    pieces = []
    for piece in line.split(","):
        for name, weight in _TAG.findall(piece):
            found[LoraTag(name.strip(), _bounded(float(weight), name))] = None
        pieces.append(_TAG.sub("", piece).strip())
    kept = (" ".join(filter(None, piece.split(" "))) for piece in pieces)
    return ", ".join(filter(None, kept)), list(found)


def _bounded(weight: float, name: str) -> float:
    where = f"of the LoRA {name[:64]!r} in the prompt"
    if weight > MAX_WEIGHT:
        msg = f"The weight {where} should be less than or equal to {MAX_WEIGHT:g}"
        raise InputFault("less_than_equal", msg, "prompt", {"le": MAX_WEIGHT})
    if weight < -MAX_WEIGHT:
        msg = f"The weight {where} should be greater than or equal to {-MAX_WEIGHT:g}"
        raise InputFault("greater_than_equal", msg, "prompt", {"ge": -MAX_WEIGHT})
    return weight
