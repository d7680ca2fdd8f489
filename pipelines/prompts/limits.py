"""How long and how heavy a prompt may be, held where it is encoded and, for those who ask, long before."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.errors import InputFault
from pipelines.prompts.chunks import CHUNK, Rows, Tokenise, chunk_prompt, count_chunks
from pipelines.prompts.embeddings import Spellings
from pipelines.prompts.phrasebook import BUNDLED, Phrasebook

if TYPE_CHECKING:  # who encodes prompts needs no pydantic
    from pipelines.spec import Spec

# Of one prompt. All rows of a UNet call attend to as many tokens as the longest prompt in it has. Three hundred words,
# each with a weight of its own, are 11 chunks of SDXL's vocabulary and 25 of the pocket model's.
MAX_CHUNKS = 32
# Hidden states times this are far from what float32 holds, and forty-eight nested parentheses are still below it.
MAX_WEIGHT = 100.0


class PromptLimits:
    """Tells what encoding a spec's prompts would refuse, before anything is spent on them. For any thread."""

    def __init__(
        self, tokenisers: Sequence[Tokenise], max_chunks: int = MAX_CHUNKS, phrasebook: Phrasebook = BUNDLED
    ) -> None:
        """tokenisers: of both text encoders."""
        self._tokenisers, self._max_chunks, self._phrasebook = tokenisers, max_chunks, phrasebook

    def faults(self, spec: "Spec") -> list[InputFault]:
        """At most one of each prompt. How many vectors an embedding has only its file tells: here it counts as none."""
        try:
            images = self._phrasebook.assembled(spec).images
        except InputFault as fault:
            return [fault]
        spellings = Spellings({token: range(0) for each in spec.embeddings for token in each.tokens if token})
        found = []
        positive, negative = [each.positive for each in images], [each.negative for each in images]
        for field, prompts in (("prompt", positive), ("negative_prompt", negative)):
            try:
                for lines in dict.fromkeys(prompts):
                    check_chunked(chunk_prompt(lines, self._tokenisers, spellings), field, self._max_chunks)
            except InputFault as fault:
                found.append(fault)
        return found


def check_chunked(chunked: Sequence[tuple[Rows, ...]], field: str, max_chunks: int = MAX_CHUNKS) -> None:
    """Raises InputFault with `field` for a prompt of too many chunks or with a weight beyond 100 or -100."""
    count = count_chunks(chunked)
    if count > max_chunks:
        msg = (
            f"This prompt has {count} chunks, and at most {max_chunks} can be drawn from. A chunk is a row of up to "
            f"{CHUNK} tokens of the text encoders, some fifty English words; each line begins with a new one."
        )
        raise InputFault("sequence_too_long", msg, field, {"max_length": max_chunks})
    weights = [weight for line in chunked for rows in line for row in rows for _, weight in row]
    where = "of a part of this prompt, as (text:1.3) sets and nested parentheses multiply it,"
    if max(weights, default=1.0) > MAX_WEIGHT:
        msg = f"The weight {where} should be less than or equal to {MAX_WEIGHT:g}"
        raise InputFault("less_than_equal", msg, field, {"le": MAX_WEIGHT})
    if min(weights, default=1.0) < -MAX_WEIGHT:
        msg = f"The weight {where} should be greater than or equal to {-MAX_WEIGHT:g}"
        raise InputFault("greater_than_equal", msg, field, {"ge": -MAX_WEIGHT})
