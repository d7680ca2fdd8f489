"""What whoever asked is told of the texts that their pictures are drawn from."""

from collections.abc import Callable, Sequence
from itertools import groupby

from pipelines.prompts.assembly import Texts

MAX_TOLD = 10_000  # characters of the texts of one picture


def told(images: Sequence[Texts], *, guided: bool) -> list[str]:
    """The positive and the negative texts of each picture, those of neighbours that are equal once.

    Each text is on a line of its own, as a client may send them again. guided: whether the negative ones act.
    """
    negative = "Negative prompt" if guided else "Negative prompt, without effect at a guidance scale of 1"
    return [
        *_of("Prompt", images, lambda each: (*each.positive, *filter(None, [each.expanded]))),
        *_of(negative, images, lambda each: tuple(filter(None, each.negative))),
    ]


def _of(what: str, images: Sequence[Texts], texts_of: Callable[[Texts], tuple[str, ...]]) -> list[str]:
    lines = []
    for texts, equal in groupby(enumerate(images, start=1), key=lambda numbered: texts_of(numbered[1])):
        numbers = [number for number, _ in equal]
        if texts:
            whole = "\n".join(texts)
            shown = whole if len(whole) <= MAX_TOLD else f"{whole[:MAX_TOLD]}…"
            lines.append(f"{what}{_places(numbers, len(images))}: {shown}")
    return lines


def _places(numbers: Sequence[int], count: int) -> str:
    if len(numbers) == count:
        return ""
    if len(numbers) == 1:
        return f" of picture {numbers[0]}"
    return f" of pictures {numbers[0]} to {numbers[-1]}"
