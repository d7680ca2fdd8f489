"""Wildcards and arrays: parts of a prompt that are another text in each picture (fooocus-facts 3.4)."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from pipelines.errors import InputFault
from pipelines.prompts.folders import text_files

MAX_ROUNDS = 64
MAX_REPLACED = 1000  # wildcards of one line, nested ones among them
MAX_LENGTH = 20_000  # characters of one line, its wildcards replaced
MAX_NAME = 64  # and no more, so that a row of underscores is not looked through once for each

_WILDCARD = re.compile(rf"__([\w-]{{1,{MAX_NAME}}}?)__")

Wildcards = Mapping[str, Sequence[str]]
"""What each name may become: at least one text, none of them empty."""


def read_wildcards(folder: Path) -> dict[str, tuple[str, ...]]:
    """The wildcards of a folder and the folders in it: `name.txt`, a text a line, empty ones left out.

    Of two files of one name that which comes first by its path counts. Raises as `text_files`.
    """
    found: dict[str, tuple[str, ...]] = {}
    for path, text in text_files(folder, ".txt"):
        if lines := tuple(line for raw in text.splitlines() if (line := raw.strip())):
            found.setdefault(path.stem, lines)
    return found


def replace_wildcards(text: str, wildcards: Wildcards, chance: Random, field: str) -> str:
    """A line with each `__name__` replaced by one of the texts of that name, which may name further ones.

    A name that is unknown stands for itself. chance: asked once for each known one, in their order, round by round.
    Raises InputFault `value_error` with `field` for what has no end: a wildcard that names itself, directly or by way
    of others, and for more than a prompt could hold.
    """
    replaced = 0

    def one(match: re.Match[str]) -> str:
        nonlocal replaced
        replaced += 1
        if replaced > MAX_REPLACED:
            raise _endless(match[1], field)
        texts = wildcards.get(match[1])
        return chance.choice(texts) if texts else match[1]

    for _ in range(MAX_ROUNDS):
        before = text
        text = _WILDCARD.sub(one, text)
        if text == before and not _WILDCARD.search(text):
            return text
        if len(text) > MAX_LENGTH and len(text) > len(before):
            msg = f"With its wildcards this prompt has more than {MAX_LENGTH} characters"
            raise InputFault("sequence_too_long", msg, field, {"max_length": MAX_LENGTH})
    left = _WILDCARD.search(text)
    if left is not None:
        raise _endless(left[1], field)
    return text


def replace_arrays(text: str, index: int) -> str:
    """A line with each `[[a, b]]` replaced by one of its items, as the picture of this index has it.

    The first array varies fastest; after all combinations they begin anew. Items keep the spaces round them. Arrays do
    not nest.
    """
    pieces, at = [], 0
    while (opened := text.find("[[", at)) >= 0 and (closed := text.find("]]", opened + 2)) >= 0:
        items = text[opened + 2 : closed].split(",")
        index, choice = divmod(index, len(items))
        pieces += [text[at:opened], items[choice]]
        at = closed + 2
    return "".join([*pieces, text[at:]])


def _endless(name: str, field: str) -> InputFault:
    msg = f"The wildcard __{name}__ names itself, directly or by way of others, or there are more than {MAX_REPLACED}"
    return InputFault("value_error", msg, field)
