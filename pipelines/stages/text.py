"""The stage of text encoding; texts that were encoded lately are remembered."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from pipelines.conditioning import Conditioning, Prompt, Tokenizers, encode_chunks
from pipelines.device import Device
from pipelines.engine.tasks import Answers, Ask, Stage
from pipelines.memory.residency import RESIDENT, Residency
from pipelines.weights.variants import Variant

REMEMBERED = 64
ROWS = 32  # of 77 tokens, in one call


@dataclass(frozen=True, eq=False)
class EncodeText(Ask[Conditioning]):
    """Encode a prompt with a variant's text encoders."""

    variant: Variant
    prompt: Prompt

    @property
    def key(self) -> Hashable:
        return self.variant.text_group

    @property
    def rows(self) -> int:
        return self.prompt.rows


class TextStage(Stage[EncodeText, Conditioning]):
    """Encodes each text by itself, so that its conditioning is bit-equal whatever else is asked at the time."""

    name = "text"
    asked = EncodeText

    def __init__(self, tokenizers: Tokenizers, device: Device, residency: Residency = RESIDENT) -> None:
        self._tokenizers, self._device, self._residency = tokenizers, device, residency
        self._remembered: OrderedDict[Hashable, Conditioning] = OrderedDict()

    def cap(self, ask: EncodeText) -> int:
        return ROWS

    def run(self, asks: Sequence[EncodeText]) -> Answers[Conditioning]:
        return Answers([self._encode(ask) for ask in asks])

    def _encode(self, ask: EncodeText) -> Conditioning:
        encoders = ask.variant.text_encoders
        name = (ask.variant.text_group, ask.prompt.key, encoders[0].dtype)
        if name not in self._remembered:
            self._remembered[name] = encode_chunks(
                ask.prompt, self._tokenizers, encoders, self._device, self._residency
            )
        self._remembered.move_to_end(name)
        while len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)
        return self._remembered[name]
