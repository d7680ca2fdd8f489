"""What the 4x upscaler was trained to: it brings back more of held-out scenes than bicubic enlargement does."""

import pytest
import torch

from benchmarks.pocket.acceptance.upscaler import exam
from models.pocket.trained import file_of
from pipelines.weights.esrgan import read_upscaler


@pytest.mark.parametrize(("side", "count"), [(256, 8), (1024, 1)])
def test_it_beats_bicubic(side: int, count: int) -> None:
    with torch.inference_mode():
        found = exam(read_upscaler(file_of("upscaler")), side, count)
    assert found["upscaler"] > found["bicubic"] + 0.5  # dB
