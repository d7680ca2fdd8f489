"""Parts of pictures: where they lie, and what of them is judged."""

import random

import numpy as np
import pytest
import torch

from training.pocket.patches import Patches

PATCHES = Patches(side=32, margin=8, outlines=3, step=4)


def test_all_but_the_first_have_an_outline_within_their_margins() -> None:
    picture = np.zeros((128, 128, 3), np.uint8)
    picture[60:, 61:] = 200
    for at in range(20):
        first, *others = PATCHES.cut(picture, random.Random(at))
        assert first.shape == (32, 32, 3)
        assert len(others) == 3
        for patch in others:
            inner = patch[:, 4:-4]  # corners are moved to multiples of 4
            assert inner.min() == 0
            assert inner.max() == 200


def test_a_picture_without_outlines_gives_as_many() -> None:
    patches = PATCHES.cut(np.full((64, 64, 3), 90, np.uint8), random.Random(1))
    assert [patch.shape for patch in patches] == [(32, 32, 3)] * 4


def test_corners_are_where_latents_are() -> None:
    rows = np.arange(64, dtype=np.uint8)[:, None, None].repeat(64, axis=1).repeat(3, axis=2) * 3
    for at in range(20):
        assert {int(patch[0, 0, 0]) // 3 % 4 for patch in PATCHES.cut(rows, random.Random(at))} == {0}


@pytest.mark.parametrize(("which", "counts"), [(0, True), (1, False)])
def test_margins_count_only_where_a_patch_lies_anywhere(which: int, counts: bool) -> None:
    wanted = torch.zeros(4, 3, 32, 32)
    drawn = wanted.clone()
    drawn[which, :, 0] = 1
    worse = float(PATCHES.loss(drawn, wanted) - PATCHES.loss(wanted, wanted))
    assert (worse > 1) is counts
    drawn[which, :, 16] = 1
    assert PATCHES.loss(drawn, wanted) > PATCHES.loss(wanted, wanted) + 5
