"""Styles: named texts that are put round a prompt, in the files of Fooocus' format (fooocus-facts 10.1)."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pipelines.prompts.folders import FolderFault, text_files
from pipelines.prompts.lines import prompt_lines

EXPANSION = "Fooocus V2"
"""The style without a text: it turns the prompt expansion on."""
RANDOM = "Random Style"
"""Stands for one of the styles that have a text, another in each picture."""
PLACE = "{prompt}"
"""Where the main prompt goes."""

_BUNDLED = Path(__file__).parent
_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Style:
    """The texts of a style, each a prompt of its own. takes_prompt: whether one of them has a place for the prompt."""

    name: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]

    @property
    def takes_prompt(self) -> bool:
        return any(PLACE in text for text in self.positive)

    def round(self, prompt: str) -> tuple[str, ...]:
        """Its positive texts with the prompt in its place."""
        return tuple(text.replace(PLACE, prompt) for text in self.positive)


def read_styles(folder: Path | None = None) -> dict[str, Style]:
    """The styles by their names: those of this package, and in place of them those of a folder of one's own.

    Every `*.json` of the folder and the folders in it is a list of objects with `name`, and `prompt` and
    `negative_prompt` where it has them. Of two of one name that of the later file counts, by the path. The two names
    that stand for no text of their own cannot be given one. Raises as `text_files`, and for a file that is not of this
    format.
    """
    found: dict[str, Style] = {}
    for root in filter(None, (_BUNDLED, folder)):
        for path, text in text_files(root, ".json"):
            found.update((style.name, style) for style in _of_file(path, text))
    return {name: style for name, style in found.items() if name not in (EXPANSION, RANDOM)}


def normal_name(name: str) -> str:
    """A style's name as clients write it: `sai-3d-model` is `SAI 3D Model`."""
    words = _WORD.sub(lambda word: word[0].capitalize(), name.replace("-", " "))
    for wrong, right in (("3d", "3D"), ("Sai", "SAI"), ("Mre", "MRE"), ("(s", "(S")):
        words = words.replace(wrong, right)
    return words


def _of_file(path: Path, text: str) -> Iterable[Style]:
    try:
        return [_style(entry) for entry in json.loads(text)]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as fault:
        raise FolderFault(
            f"{path} is not a file of styles: a list of objects with name, prompt, negative_prompt."
        ) from fault


def _style(entry: Mapping[str, Any]) -> Style:
    return Style(normal_name(entry["name"]), _texts(entry.get("prompt")), _texts(entry.get("negative_prompt")))


def _texts(text: str | None) -> tuple[str, ...]:
    return tuple(filter(None, prompt_lines(text or "")))


STYLES: Mapping[str, Style] = MappingProxyType(read_styles())
"""Those of this package."""
