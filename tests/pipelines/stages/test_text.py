"""The stage of text encoding: what was asked for lately is not encoded again, and no more than that is kept."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipelines.conditioning import Conditioning, Prompt
from pipelines.device import PlainDevice
from pipelines.stages import text
from pipelines.stages.text import REMEMBERED, EncodeText, TextStage


def test_texts_that_were_not_asked_for_lately_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []

    def encode_chunks(prompt: Prompt, *_: Any) -> Conditioning:
        encoded.extend(prompt.lines)
        return Conditioning(torch.zeros(1, 4), torch.zeros(4))

    monkeypatch.setattr(text, "encode_chunks", encode_chunks)
    variant: Any = SimpleNamespace(text_encoders=[SimpleNamespace(dtype=torch.float32)], text_group="base")
    tokenizers: Any = ([], [])
    stage = TextStage(tokenizers, PlainDevice(torch.device("cpu")))

    def ask(*lines: str) -> None:
        stage.run([EncodeText(variant, Prompt((line,), [], 1)) for line in lines])

    said = [str(number) for number in range(REMEMBERED)]
    ask(*said)
    ask(said[0])
    assert encoded == said
    ask("one more")  # in the place of the second, which is now the one not asked for the longest
    ask(said[0], said[2], "one more")
    assert encoded == [*said, "one more"]
    ask(said[1])
    assert encoded[-1] == said[1]
