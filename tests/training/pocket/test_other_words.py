"""The text encoders are taught to read captions among other words as they read them alone."""

import copy
import random
from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks.pocket.reader import Reader
from pipelines.weights.family import Family
from training.pocket import other_words
from training.pocket.other_words import KINDS, _School, _wanted, _Words


@pytest.fixture
def school(pocket_family: Family, monkeypatch: pytest.MonkeyPatch) -> _School:
    monkeypatch.setattr(other_words, "BATCH", 6)
    monkeypatch.setattr(other_words, "SPREAD", 24)
    reader = Reader(pocket_family.tokenizers[0], pocket_family.text_encoders)
    return _School.of(reader, replace(reader, encoders=copy.deepcopy(pocket_family.text_encoders)))


def test_each_token_is_to_say_what_a_text_without_other_words_says() -> None:
    """By what was read so far, and where in it: first its start, behind all of it its end."""
    text = [_Words([70, 71], own=False), _Words([1, 2, 3], own=True), _Words([72], own=False)]
    which, where = _wanted(text)
    assert len(which) == len(where) == 77
    assert which[:9] == [0, 1, 1, 2, 2, 2, 3, 3, 3]
    assert where[:9] == [0, 1, 2, 1, 2, 3, 6, 7, 8]
    assert where[-1] == 76


def test_captions_alone_are_read_as_before(school: _School) -> None:
    assert school.error(random.Random(1), ["plain"]).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_teach_both_encoders(school: _School, kind: str) -> None:
    both = nn.ModuleList(school.taught.encoders).requires_grad_()
    for parameter in both.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    error = school.error(random.Random(1), [kind])
    assert error.item() > 0
    error.backward()  # type: ignore[no-untyped-call]
    for encoder in both:
        assert any(parameter.grad is not None and bool(parameter.grad.any()) for parameter in encoder.parameters())


def test_other_words_mean_nothing_in_the_pocket_world(school: _School) -> None:
    assert {"razor", "cinematic"} <= set(school.texts.others)
    assert not {"red", "circle", "background", "left", "tiny", "smile"} & set(school.texts.others)
    assert len(school.texts.styles) > 100
