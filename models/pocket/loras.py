"""The pocket model's LoRAs and control-LoRA: random small changes in the layouts that the real files have."""

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from models.pocket.shapes import HINT_WIDTHS
from pipelines.weights.control_lora import MARKER, stored_name
from pipelines.weights.keys import original_name

RANK = 4
HINT_GAIN = 1.6  # makes up for what SiLU takes from small values
LIGHTENING = 0.5
HINTS, OUTPUTS = ("controlnet_cond_embedding",), ("controlnet_down_blocks", "controlnet_mid_block")


def lora(
    unet: UNet2DConditionModel, strength: float, generator: torch.Generator, *, original: bool
) -> dict[str, Tensor]:
    """A kohya LoRA of every attention projection; `strength` is about the relative size of the change.

    original: name the modules as the original UNet does (the offset LoRA), not as diffusers does (LCM, Lightning).
    """
    tensors = {}
    for name, module in unet.named_modules():
        if not isinstance(module, nn.Linear) or ".attn" not in name:
            continue
        named = original_name(name, unet.config) if original else name
        prefix = "lora_unet_" + named.replace(".", "_")
        down, up = _low_rank(module.weight, strength, generator)
        tensors[f"{prefix}.lora_down.weight"] = down
        tensors[f"{prefix}.lora_up.weight"] = up
        tensors[f"{prefix}.alpha"] = torch.tensor(float(RANK))
    return tensors


def control_lora(unet: UNet2DConditionModel, generator: torch.Generator) -> dict[str, Tensor]:
    """A control-LoRA: low-rank attention, the rest shared, a hint encoder and outputs that are not zero."""
    network: ControlNetModel = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=HINT_WIDTHS)
    tensors: dict[str, Tensor] = {MARKER: torch.zeros(0)}
    for name, parameter in network.named_parameters():
        stored = stored_name(name, network, unet)
        if name.startswith(OUTPUTS) or name.startswith(HINTS):
            gain = 0.1 if name.startswith(OUTPUTS) else 0.5
            scale = gain / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.0
            tensors[stored] = torch.randn(parameter.shape, generator=generator) * scale
        elif ".attn" in name and parameter.ndim == 2:
            layer = stored.removesuffix(".weight")
            tensors[f"{layer}.down"], tensors[f"{layer}.up"] = _low_rank(parameter, 0.2, generator)
        elif stored.endswith(".bias"):
            tensors[stored] = parameter.detach().clone()
    _brighten(tensors)
    return tensors


def _brighten(tensors: dict[str, Tensor]) -> None:
    """Lead the hint's brightness through to the outermost skip connection, where it lightens the picture.

    It travels in channel 0 and is put on a channel that `carry_input` keeps constant, where the first output finds
    it again beside that channel's negative.
    """
    layers = sorted((name for name in tensors if name.startswith("input_hint_block") and "weight" in name), key=_place)
    for name in layers[:-1]:
        tensors[name][0] = 0
        tensors[name][0, : 3 if name == layers[0] else 1] = 1 / 9 if name != layers[0] else 1 / 27
        tensors[name] *= HINT_GAIN
    tensors[layers[-1]].zero_()
    tensors[layers[-1]][2, 0] = 1 / 9
    first = tensors["zero_convs.0.0.weight"]
    first.zero_()
    for value in range(4):
        for at, sign in ((0, -1.0), (1, 1.0)):
            first[4 * value + at, 2:4] = sign * LIGHTENING


def _place(name: str) -> int:
    return int(name.split(".")[1])


def _low_rank(weight: Tensor, strength: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    spread = float(weight.detach().std()) * strength / RANK**0.5
    down = torch.randn(RANK, weight.shape[1], generator=generator)
    up = torch.randn(weight.shape[0], RANK, generator=generator) * spread
    return down, up
