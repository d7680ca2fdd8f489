"""A writer of a miniature of Stable Diffusion 1.5: random weights, with the pocket family's text encoder and VAE."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from models.pocket.layout import stored_first_text, stored_unet, stored_vae
from pipelines.parts import CONFIGS
from pipelines.weights.checkpoint import read_config


@dataclass(frozen=True)
class Sd15:
    """Its checkpoint, its configurations, and its models: UNet, text encoder and VAE."""

    path: Path
    config: Path
    models: tuple[nn.Module, ...]


def write_sd15(folder: Path, pocket: Path) -> Sd15:
    """Write `sd15.safetensors` and `sd15_config` into `folder`. pocket: folder of the pocket family."""
    path, config = folder / "sd15.safetensors", folder / "sd15_config"
    for name in ("text_encoder", "vae"):
        shutil.copytree(pocket / "config" / name, config / name)
    of_text = read_config(config / "text_encoder")
    of_vae = read_config(config / "vae") | {"scaling_factor": 0.18215}
    of_unet = read_config(CONFIGS / "sd15" / "unet") | {
        "block_out_channels": [8, 8, 16, 16],
        "cross_attention_dim": of_text["hidden_size"],
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    (config / "unet").mkdir()
    for name, settings in (("vae", of_vae), ("unet", of_unet)):
        (config / name / "config.json").write_text(json.dumps(settings))
    torch.manual_seed(0)
    unet: UNet2DConditionModel = UNet2DConditionModel.from_config(of_unet)
    vae: AutoencoderKL = AutoencoderKL.from_config(of_vae)
    text = CLIPTextModel(CLIPTextConfig(**of_text))
    first = {
        key.replace("conditioner.embedders.0.", "cond_stage_model."): tensor
        for key, tensor in stored_first_text(text).items()
    }
    stored = {**stored_unet(unet), **stored_vae(vae), **first, "betas": torch.zeros(1000)}
    save_file({key: tensor.detach().contiguous() for key, tensor in stored.items()}, path)
    return Sd15(path, config, (unet, text, vae))
