"""The refiner's UNet, out of a checkpoint in the original SDXL layout, and the size ids that it is told."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pipelines.errors import WeightsFault

PREFIX = "model.diffusion_model."
AESTHETIC_SCORE = 6.0  # that it is told of every picture, where nothing else is asked for


def read_refiner(path: Path, config: Path) -> UNet2DConditionModel:
    """The UNet of a refiner's checkpoint, in fp32 on the CPU.

    config: the folder with its `config.json`, which alone says how deep and wide it is. Raises WeightsFault when a file
    cannot be read, or unless each parameter finds its tensor, in its shape, and each tensor its parameter.
    """
    try:
        about = json.loads((config / "config.json").read_bytes())
        tensors = load_file(path)
    except (OSError, ValueError, SafetensorError) as fault:
        raise WeightsFault(f"The refiner {path} cannot be read: {fault}") from fault
    unet: UNet2DConditionModel = UNet2DConditionModel.from_config(about)
    there = sum(key.startswith(PREFIX) for key in tensors)
    convert: Any = convert_ldm_unet_checkpoint  # which carries no types
    try:
        found: dict[str, Tensor] = convert(tensors, about)
        if len(found) != there:
            raise WeightsFault(f"The refiner {path} has {there - len(found)} tensors without a place in {config}")
        unet.load_state_dict({name: tensor.float() for name, tensor in found.items()})
    except (KeyError, RuntimeError) as fault:
        raise WeightsFault(f"The refiner {path} is not of the configuration in {config}: {fault}") from fault
    return unet.eval().requires_grad_(False)


def refiner_size_ids(height: int, width: int, rows: int) -> Tensor:
    """(rows, 5): original size in pixels, what is cropped, the score."""
    return torch.tensor([float(height), float(width), 0.0, 0.0, AESTHETIC_SCORE]).repeat(rows, 1)
