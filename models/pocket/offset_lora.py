"""The pocket model's offset LoRA: random small changes in the layout that the real file has."""

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from pipelines.weights.keys import original_name

RANK = 4
STRENGTH = 2.0  # about the relative size of the change


def offset_lora(unet: UNet2DConditionModel, generator: torch.Generator) -> dict[str, Tensor]:
    """A kohya LoRA of every attention projection, named as the original UNet has them."""
    tensors = {}
    for name, module in unet.named_modules():
        if not isinstance(module, nn.Linear) or ".attn" not in name:
            continue
        outputs, inputs = module.weight.shape
        spread = float(module.weight.detach().std()) * STRENGTH / RANK**0.5
        prefix = "lora_unet_" + original_name(name, unet.config).replace(".", "_")
        tensors[f"{prefix}.lora_down.weight"] = torch.randn(RANK, inputs, generator=generator)
        tensors[f"{prefix}.lora_up.weight"] = torch.randn(outputs, RANK, generator=generator) * spread
        tensors[f"{prefix}.alpha"] = torch.tensor(float(RANK))
    return tensors
