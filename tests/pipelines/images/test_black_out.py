"""Blacking out."""

import numpy as np
import pytest

from pipelines.images.black_out import black_out


def test_only_flagged_pictures_become_black_and_the_callers_array_stays() -> None:
    images = np.full((3, 8, 8, 3), 200, np.uint8)
    shown = black_out(images, [False, True, False])
    assert not shown[1].any()
    assert (shown[[0, 2]] == 200).all()
    assert (images == 200).all()


def test_one_flag_per_picture_is_demanded() -> None:
    with pytest.raises(ValueError, match="2 images but 1 flags"):
        black_out(np.zeros((2, 8, 8, 3), np.uint8), [True])
