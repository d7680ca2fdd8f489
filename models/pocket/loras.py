"""The pocket model's offset LoRA: random small changes in the layout that the real file has."""

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from pipelines.weights.keys import original_name

RANK = 4


def offset_lora(unet: UNet2DConditionModel, strength: float, generator: torch.Generator) -> dict[str, Tensor]:
    """A kohya LoRA of every attention projection, named as the original UNet has them.

    strength: about the relative size of the change.
    """
    tensors = {}
    for name, module in unet.named_modules():
        if not isinstance(module, nn.Linear) or ".attn" not in name:
            continue
        prefix = "lora_unet_" + original_name(name, unet.config).replace(".", "_")
        down, up = _low_rank(module.weight, strength, generator)
        tensors[f"{prefix}.lora_down.weight"] = down
        tensors[f"{prefix}.lora_up.weight"] = up
        tensors[f"{prefix}.alpha"] = torch.tensor(float(RANK))
    return tensors


def _low_rank(weight: Tensor, strength: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    spread = float(weight.detach().std()) * strength / RANK**0.5
    down = torch.randn(RANK, weight.shape[1], generator=generator)
    up = torch.randn(weight.shape[0], RANK, generator=generator) * spread
    return down, up
