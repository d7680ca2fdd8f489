"""What the refiner is told of a picture beside the prompt."""

import torch
from torch import Tensor

AESTHETIC_SCORE = 6.0  # that it is told of every picture, where nothing else is asked for


def refiner_size_ids(height: int, width: int, rows: int) -> Tensor:
    """(rows, 5): original size in pixels, what is cropped, the score."""
    return torch.tensor([float(height), float(width), 0.0, 0.0, AESTHETIC_SCORE]).repeat(rows, 1)
