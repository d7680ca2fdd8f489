"""Captions are read as the service reads prompts."""

import pytest
import torch

from benchmarks.pocket.reader import Reader
from pipelines.conditioning import encode_prompt
from pipelines.weights.family import Family


@pytest.mark.parametrize("said", ["", "a big red circle on the left on a blue background", "an unknown Größe, simple"])
def test_captions_are_encoded_as_prompts_are(pocket_family: Family, said: str) -> None:
    reader = Reader(pocket_family.tokenizers[0], pocket_family.text_encoders)
    wanted = encode_prompt([said], pocket_family.tokenizers, pocket_family.text_encoders)
    context, pooled = reader([said, "longer than the other one by a few words"], 77)
    assert torch.allclose(context[0], wanted.context, atol=1e-4)
    assert torch.allclose(pooled[0], wanted.pooled, atol=1e-4)
    short, _ = reader([said], 32)
    assert torch.allclose(short[0], wanted.context[:32], atol=1e-4)
