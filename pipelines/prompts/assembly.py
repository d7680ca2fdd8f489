"""Prompt assembly: from what a client wrote to the texts that each picture is drawn from (fooocus-facts 3.1 to 3.4).

A function of its arguments alone: the same seed gives the same texts on every machine.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from pipelines.errors import InputFault
from pipelines.prompts.lines import prompt_lines
from pipelines.prompts.lora_tags import LoraTag, take_lora_tags
from pipelines.prompts.styles import EXPANSION, RANDOM, Style
from pipelines.prompts.wildcards import Wildcards, replace_arrays, replace_wildcards

MAX_CHARACTERS = 200_000
"""Of all texts of one picture: far more than may be encoded, and little enough to be counted at once."""


@dataclass(frozen=True, slots=True)
class Texts:
    """What one picture is drawn from, each text a prompt of its own, never none.

    main: the client's own prompt in them, which the expansion lengthens; further: the lines behind it. styles: names of
    those that act, in order. expanded: one more positive text, which the pooled vector leaves out (fooocus-facts 3.8);
    empty where there is none.
    """

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    main: str
    styles: tuple[str, ...] = ()
    further: tuple[str, ...] = ()
    expanded: str = ""

    @property
    def prompt(self) -> str:
        """The client's own prompt as it was drawn, a text a line: without the texts of styles, lengthened."""
        return "\n".join(filter(None, (self.expanded or self.main, *self.further)))


@dataclass(frozen=True, slots=True)
class Assembled:
    """images: of each seed, in their order. loras: that the prompt names. expands: whether the expansion is on."""

    images: tuple[Texts, ...]
    loras: tuple[LoraTag, ...]
    expands: bool


def assemble(
    prompt: str,
    negative_prompt: str,
    styles: Sequence[str],
    seeds: Sequence[int],
    *,
    known: Mapping[str, Style],
    wildcards: Wildcards,
) -> Assembled:
    """The texts of each picture.

    styles: names in `known`, `Fooocus V2` and `Random Style`; the order is that of their texts, and one named twice
    acts once. seeds: one a picture. Raises InputFault with the field for an unknown style, wildcards without end, a
    LoRA's weight out of range and texts that are too long.
    """
    lines, negative_lines = prompt_lines(prompt), prompt_lines(negative_prompt)
    main, loras = take_lora_tags(lines[0])
    chosen = [name for name in dict.fromkeys(styles) if name != EXPANSION]
    _hold_to_known((name for name in chosen if name != RANDOM), known)
    images = tuple(
        _texts([main, *lines[1:]], negative_lines, chosen, index, Random(seed), known, wildcards)
        for index, seed in enumerate(seeds)
    )
    return Assembled(images, tuple(loras), EXPANSION in styles and bool(lines[0]))


def _texts(
    lines: Sequence[str],
    negative_lines: Sequence[str],
    chosen: Sequence[str],
    index: int,
    chance: Random,
    known: Mapping[str, Style],
    wildcards: Wildcards,
) -> Texts:
    # in this order, for each asks the same chance
    main = replace_wildcards(lines[0], wildcards, chance, "prompt")
    negative_main = replace_wildcards(negative_lines[0], wildcards, chance, "negative_prompt")
    extra = [replace_wildcards(line, wildcards, chance, "prompt") for line in lines[1:]]
    negative_extra = [replace_wildcards(line, wildcards, chance, "negative_prompt") for line in negative_lines[1:]]
    main = replace_arrays(main, index)
    acting = [known[_drawn(known, chance) if name == RANDOM else name] for name in chosen]
    positive, negative = _put_round([main, *extra], [negative_main, *negative_extra], acting)
    return Texts(positive, negative, main, tuple(style.name for style in acting), tuple(extra))


def _put_round(
    lines: Sequence[str], negative_lines: Sequence[str], styles: Sequence[Style]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The positive and the negative texts that styles make of a prompt's lines, of which the first is the main one.

    Raises InputFault `sequence_too_long` for more than MAX_CHARACTERS.
    """
    main, *extra = lines
    placed = any(style.takes_prompt for style in styles)
    positive = [*([] if placed else [main]), *(text for style in styles for text in style.round(main)), *extra]
    negative = [*(text for style in styles for text in style.negative), *negative_lines]
    _hold_to_length(positive, "prompt")
    _hold_to_length(negative, "negative_prompt")
    return tuple(filter(None, positive)) or (main,), tuple(filter(None, negative)) or (negative_lines[0],)


def expanded(images: Sequence[Texts], expansions: Sequence[str]) -> tuple[Texts, ...]:
    """The texts of each picture with its main one lengthened. expansions: one a picture, empty where nothing was added,
    or none at all."""
    if not expansions:
        return tuple(images)
    return tuple(replace(texts, expanded=added) for texts, added in zip(images, expansions, strict=True))


def _hold_to_known(styles: Iterable[str], known: Mapping[str, Style]) -> None:
    for name in styles:
        if name not in known:
            raise InputFault("value_error", f"There is no style {name[:64]!r}", "styles")


def _drawn(known: Mapping[str, Style], chance: Random) -> str:
    names = [name for name in known if name != EXPANSION]
    if not names:
        raise InputFault("value_error", "There are no styles to draw one from", "styles")
    return chance.choice(names)


def _hold_to_length(texts: Iterable[str], field: str) -> None:
    if sum(map(len, texts)) > MAX_CHARACTERS:
        msg = f"With its styles and wildcards this prompt has more than {MAX_CHARACTERS} characters"
        raise InputFault("sequence_too_long", msg, field, {"max_length": MAX_CHARACTERS})
