"""The stage of text encoding; texts that were encoded lately are remembered."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.conditioning import Conditioning, Tokenizers, encode_prompt
from pipelines.prompts.limits import MAX_CHUNKS
from pipelines.weights.variants import Variant

REMEMBERED = 64


@dataclass(frozen=True, eq=False)
class EncodeText:
    """Encode the lines of a prompt with a variant's text encoders. The answer is a `Conditioning`.

    field: the prompt's place in the client's input.
    """

    variant: Variant
    lines: tuple[str, ...]
    field: str = "prompt"

    @property
    def key(self) -> Hashable:
        return self.variant.key

    @property
    def rows(self) -> int:
        return 1

    @property
    def cost(self) -> float:
        return 0.0


class TextStage:
    """Encodes each text by itself, so that its conditioning is bit-equal whatever else is asked at the time.

    A call raises InputFault for a prompt of more than `max_chunks` chunks or with too large a weight.
    """

    name = "text"

    def __init__(self, tokenizers: Tokenizers, max_chunks: int = MAX_CHUNKS) -> None:
        self._tokenizers, self._max_chunks = tokenizers, max_chunks
        self._remembered: OrderedDict[Hashable, Conditioning] = OrderedDict()

    def cap(self, ask: Any) -> int:
        return 8

    def run(self, asks: Sequence[EncodeText]) -> list[Conditioning]:
        return [self._encode(ask) for ask in asks]

    def _encode(self, ask: EncodeText) -> Conditioning:
        name = (ask.variant.key, ask.lines)
        if name not in self._remembered:
            self._remembered[name] = encode_prompt(
                ask.lines, self._tokenizers, ask.variant.text_encoders, ask.field, self._max_chunks
            )
        self._remembered.move_to_end(name)
        while len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)
        return self._remembered[name]
