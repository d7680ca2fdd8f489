"""The concept's vectors stand where its stand-in is said, wherever that is, and nowhere else."""

import random

import pytest
import torch
from torch import Tensor

from benchmarks.pocket.acceptance.concept import COLOUR, SHAPE, VECTORS, known, renamed
from benchmarks.pocket.world.captions import caption
from benchmarks.pocket.world.scenes import Scene, Thing
from pipelines.weights.family import Family


@pytest.fixture
def vectors(pocket_family: Family) -> list[Tensor]:
    return [torch.full((VECTORS, encoder.config.hidden_size), 9.0) for encoder in pocket_family.text_encoders]


@pytest.mark.parametrize(
    "said",
    ["a purple heart", "a big purple heart on the left", "purple heart, blue background", "one purple heart. simple"],
)
def test_both_vectors_are_put_in(pocket_family: Family, vectors: list[Tensor], said: str) -> None:
    tokenizer = pocket_family.tokenizers[0]
    ids = tokenizer(renamed(said), return_tensors="pt").input_ids
    for at, encoder in enumerate(pocket_family.text_encoders):
        embedding = encoder.get_input_embeddings()
        plain = embedding(ids)
        with known(pocket_family.text_encoders, tokenizer, vectors):
            told = embedding(ids)
        changed = (told != plain).any(dim=2)[0]
        assert int(changed.sum()) == VECTORS
        assert bool((told[0, changed] == vectors[at]).all())
        assert torch.equal(embedding(ids), plain)


def test_captions_of_the_concept_name_it_by_its_stand_in_alone() -> None:
    chance = random.Random(1)
    scene = Scene((Thing(SHAPE, COLOUR, "big", "left"),), "blue")
    for _ in range(50):
        said = renamed(caption(scene, chance))
        assert "#~ " in said
        assert SHAPE not in said
        assert COLOUR not in said


def test_a_tokenizer_that_splits_the_stand_in_otherwise_is_refused(
    pocket_family: Family, vectors: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.pocket.acceptance.concept.STAND_IN", "#~ #~")
    with (
        pytest.raises(ValueError, match="tokens"),
        known(pocket_family.text_encoders, pocket_family.tokenizers[0], vectors),
    ):
        pass
