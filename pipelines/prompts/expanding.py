"""What of a spec is expanded, and when the words are left away: beside the model that finds them, without torch."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from pipelines.errors import InputFault
from pipelines.prompts.assembly import Texts
from pipelines.prompts.chunks import Tokenise, chunk_prompt, count_chunks
from pipelines.prompts.phrasebook import Phrasebook

if TYPE_CHECKING:
    from pipelines.spec import Spec

Fits = Callable[[Sequence[str]], bool]
"""Whether so many texts may be one prompt."""


class Expands(Protocol):
    """The part of `pipelines.expansion.PromptExpander` that is used."""

    def expand(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[str]: ...


def expand_specs(
    specs: Sequence["Spec"], expander: Expands, phrasebook: Phrasebook, fits: Fits
) -> list[tuple[str, ...]]:
    """For each spec the expanded main text of each of its pictures: "" where nothing was added.

    All pictures are one batch. Nothing is added where the texts of a picture and the expanded one are more than `fits`
    allows. A spec of which no texts can be made gets no words, and is refused where they are drawn from. Raises what
    `expand` raises.
    """
    pictures = [_texts_of(spec, phrasebook) for spec in specs]
    mains = [texts.main for each in pictures for texts in each]
    seeds = [
        seed for spec, each in zip(specs, pictures, strict=True) for seed, _ in zip(spec.seeds, each, strict=False)
    ]
    expanded = iter(expander.expand(mains, seeds))
    return [
        tuple(_added(texts, next(expanded), fits) for texts in each) or ("",) * len(spec.seeds)
        for spec, each in zip(specs, pictures, strict=True)
    ]


def fitting(tokenisers: Sequence[Tokenise], max_chunks: int) -> Fits:
    """Whether texts are at most `max_chunks` chunks together."""
    return lambda texts: count_chunks(chunk_prompt(texts, tokenisers)) <= max_chunks


def _texts_of(spec: "Spec", phrasebook: Phrasebook) -> tuple[Texts, ...]:
    try:
        return phrasebook.assembled(spec).images
    except InputFault:
        return ()


def _added(texts: Texts, expanded: str, fits: Fits) -> str:
    return expanded if expanded != texts.main and fits([*texts.positive, expanded]) else ""
