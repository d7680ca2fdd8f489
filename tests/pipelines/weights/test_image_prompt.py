"""Pictures as the vision tower of image prompts sees them."""

import numpy as np
import pytest

from pipelines.weights.image_prompt import EDGE, tower_input


def test_a_picture_is_stretched_and_normalised_as_clip_does() -> None:
    found = tower_input([np.full((10, 30, 3), 255, np.uint8), np.zeros((7, 7, 3), np.uint8)])
    assert found.shape == (2, 3, EDGE, EDGE)
    assert found[0, :, 0, 0].tolist() == pytest.approx([1.93034, 2.07488, 2.14590], abs=1e-4)
    assert found[1, :, -1, -1].tolist() == pytest.approx([-1.79226, -1.75210, -1.48022], abs=1e-4)
