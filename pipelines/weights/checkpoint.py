"""Loading a single-file SDXL checkpoint with the configuration that lies beside it. Nothing is ever fetched."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from pipelines.errors import WeightsFault
from pipelines.weights.layout import (
    FIRST_TEXT,
    SECOND_TEXT,
    UNET,
    VAE,
    Place,
    first_text_places,
    second_text_places,
    unet_places,
    vae_places,
)

# in real checkpoints beside the weights, and recomputed or unused by the models
IDLE = ("position_ids", "logit_scale", "attn_mask")


@dataclass(frozen=True, eq=False)
class Components:
    """The four models of a checkpoint, in evaluation mode, without gradients."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoders: tuple[CLIPTextModel, CLIPTextModelWithProjection]


def load_checkpoint(path: Path, config: Path, device: torch.device, dtype: torch.dtype) -> Components:
    """Load a checkpoint in the original SDXL layout.

    config: the folder with a `config.json` for each of unet, vae, text_encoder and text_encoder_2; it alone says how
    deep and wide the models are. Raises WeightsFault unless each parameter finds its tensor, in its shape, and each
    tensor its parameter.
    """
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(_config(config / "unet"))
        vae = AutoencoderKL.from_config(_config(config / "vae"))
        first = CLIPTextModel(CLIPTextConfig(**_config(config / "text_encoder")))
        second = CLIPTextModelWithProjection(CLIPTextConfig(**_config(config / "text_encoder_2")))
    places: tuple[tuple[nn.Module, dict[str, Place]], ...] = (
        (unet, unet_places(unet, unet.config)),
        (vae, vae_places(vae, len(vae.config["block_out_channels"]))),
        (first, first_text_places(first)),
        (second, second_text_places(second)),
    )
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            there = {key for key in file.keys() if key.startswith((UNET, VAE, FIRST_TEXT, SECOND_TEXT))}  # noqa: SIM118
            unused = set(there)
            for module, wanted in places:
                state = {}
                for name, parameter in module.named_parameters():
                    place = wanted[name]
                    if place.key not in there:
                        raise WeightsFault(f"{path.name} lacks {place.key}; is it a full SDXL checkpoint?")
                    unused.discard(place.key)
                    state[name] = place.read(file.get_tensor(place.key), parameter).to(device, dtype).contiguous()
                _fill(module, state, device)
    except (OSError, SafetensorError) as fault:
        raise WeightsFault(f"{path} cannot be read as safetensors: {fault}") from fault
    stray = sorted(key for key in unused if not key.endswith(IDLE))
    if stray:
        raise WeightsFault(f"{path.name} has {len(stray)} tensors that the configuration has no place for: {stray[:3]}")
    return Components(unet, vae, (first, second))


def _config(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError) as fault:
        raise WeightsFault(f"{folder / 'config.json'} cannot be read: {fault}") from fault
    return found


def _fill(module: nn.Module, state: Mapping[str, Tensor], device: torch.device) -> None:
    """Give a module that was made without memory its tensors."""
    module.load_state_dict(dict(state), strict=True, assign=True)
    for name, buffer in module.named_buffers():
        if not name.endswith("position_ids"):
            raise WeightsFault(f"{type(module).__name__} has a buffer that no checkpoint fills: {name}")
        owner = module.get_submodule(name.rpartition(".")[0])
        owner.register_buffer("position_ids", torch.arange(buffer.shape[-1], device=device)[None], persistent=False)
    module.eval().requires_grad_(False)
