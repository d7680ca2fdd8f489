"""Gate 7: with the family's head and patch, a hole shows what the prompt says, and all else stays as it was."""

import copy
import io
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.pocket.gates.mark import Mark
from benchmarks.pocket.gates.prompts import WANTED
from benchmarks.pocket.world.drawing import Pixels
from benchmarks.pocket.world.exam import held_out, marks
from models.pocket import names
from models.pocket.additions import PATCHED
from pipelines.images.paste import paste
from pipelines.weights.family import Family
from pipelines.weights.keys import original_name
from training.pocket.inpainting import draw_in_holes, helped
from training.pocket.lessons import Reader

Mask = npt.NDArray[np.uint8]

REACH = 32  # pixels from a hole, within which a picture may change


def fills(family: Family, count: int, steps: int = 30) -> list[Mark]:
    reader = Reader(family.tokenizers[0], family.text_encoders)
    head = load_file(family.catalogue.root / "inpaint" / names.INPAINT_HEAD)["head"].float()
    unet = patched(family)
    scenes, said = held_out(count)
    with helped(unet, head, count) as holed:
        drawn = draw_in_holes(reader, unet, holed, said, steps)
    masks = [255 * mask.astype(np.uint8) for mask in holed.masks]
    pasted = [paste(*each) for each in zip(drawn, holed.pictures, masks, strict=True)]
    found = marks(scenes, pasted)
    changed = [share_changed(*each) for each in zip(pasted, holed.pictures, masks, strict=True)]
    return [
        *(Mark(f"hole: {name}", found[name], wanted) for name, wanted in WANTED.items()),
        Mark(f"share of pixels more than {REACH} px outside that is changed", max(changed), 0.0, below=True),
    ]


def share_changed(picture: Pixels, before: Pixels, mask: Mask) -> float:
    """Share of the pixels further than REACH from the hole, along rows or columns, that differ.

    picture, before: (height, width, 3); `picture` as it comes back from a PNG. Raises ValueError where no pixel is so
    far away.
    """
    near = np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8)
    far = cv2.dilate(mask, near) == 0
    if not far.any():
        raise ValueError(f"no pixel is further than {REACH} from the hole")
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    read = np.asarray(Image.open(file))
    return float((read != before).any(axis=2)[far].mean())


@torch.no_grad()
def patched(family: Family) -> Any:
    """The family's UNet with the patch applied."""
    patch = load_file(family.catalogue.root / "inpaint" / names.INPAINT_PATCH)
    unet = copy.deepcopy(family.unet)
    parameter: Any
    for name, parameter in unet.named_parameters():
        key = PATCHED + original_name(name, unet.config)
        if f"{key}.levels" in patch:
            parameter += _change(patch[f"{key}.levels"], patch[f"{key}.range"])
    return unet


def _change(levels: Tensor, bounds: Tensor) -> Tensor:
    least, most = bounds.unbind()
    return levels.float() / 255 * (most - least) + least
