"""Image prompts as IP-Adapter publishes them: how a vision tower sees pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

EDGE = 224  # pixels of a side, as a vision tower sees pictures
MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's
DEVIATION = (0.26862954, 0.26130258, 0.27577711)


def tower_input(pictures: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
    """(n, 3, EDGE, EDGE), as the tower sees (height, width, 3) pictures: stretched and normalised."""
    small = [np.asarray(Image.fromarray(each).resize((EDGE, EDGE), Image.Resampling.LANCZOS)) for each in pictures]
    found = (torch.from_numpy(np.stack(small)).float() / 255 - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    return found.permute(0, 3, 1, 2)


def tower_features(tower: Any, pixels: Tensor) -> Tensor:
    """(n, patches + 1, width): what the last but one layer says of `tower_input`, which the adapter is given."""
    found: Tensor = tower(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]
    return found
