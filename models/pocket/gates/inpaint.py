"""Gate 7: with the family's head and patch, a hole shows what the prompt says."""

import copy
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from models.pocket import names
from models.pocket.additions import PATCHED
from models.pocket.gates.mark import Mark
from models.pocket.gates.prompts import WANTED
from models.pocket.training.inpainting import helped, score
from models.pocket.training.lessons import Reader
from pipelines.weights.family import Family
from pipelines.weights.keys import original_name


def fills(family: Family, count: int, steps: int = 30) -> list[Mark]:
    reader = Reader(family.tokenizers[0], family.text_encoders)
    head = load_file(family.catalogue.root / "inpaint" / names.INPAINT_HEAD)["head"].float()
    unet = patched(family)
    with helped(unet, head, count) as holed:
        found = score(reader, unet, holed, steps)
    return [Mark(f"hole: {name}", found[name], wanted) for name, wanted in WANTED.items()]


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
