"""Refiners: the models of SDXL's own and of a Stable Diffusion 1.5 checkpoint, which a family has as a part."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from diffusers.loaders.single_file_utils import convert_ldm_clip_checkpoint
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from pipelines.errors import WeightsFault
from pipelines.parts import CONFIGS
from pipelines.weights.checkpoint import (
    UNET,
    VAE,
    convert_open_clip,
    convert_vae,
    fill,
    load_unet,
    read_config,
    require_places,
)
from pipelines.weights.header import read_header
from pipelines.weights.recognition import recognise

SDXL_TEXT, SD15_TEXT = "conditioner.embedders.0.model.", "cond_stage_model.transformer."


@dataclass(frozen=True, eq=False)
class SdxlRefiner:
    """SDXL's refiner: its UNet and its only text encoder, OpenCLIP's bigG. It reads the base's latents, so the VAE of
    its file is not used; its tokens are those of `tokenizer_2` of SDXL base."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModelWithProjection


@dataclass(frozen=True, eq=False)
class Sd15Refiner:
    """A Stable Diffusion 1.5 model: its UNet, its text encoder, CLIP's ViT-L, and the VAE of its own latents. Its
    tokens are those of `tokenizer` of SDXL base."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    vae: AutoencoderKL


def load_refiner(
    path: Path,
    config: Path | None,
    device: torch.device,
    dtype: torch.dtype,
    *,
    vae_dtype: torch.dtype | None = None,
    text_dtype: torch.dtype | None = None,
    text_device: torch.device | None = None,
) -> SdxlRefiner | Sd15Refiner:
    """Load a refiner's checkpoint in the original layout; which of both it is, its names say.

    config: the folder with a `config.json` for each of unet and text_encoder_2 (SDXL's) or unet, text_encoder and vae
    (Stable Diffusion 1.5); None for the published ones. dtype: of the UNet, and of what has none of its own.
    text_device: of the text encoder, where it is another one; on `meta` it is held against the file and not read.
    Raises WeightsFault for a file of another kind, and as `load_checkpoint` does.
    """
    header = read_header(path)
    found = recognise(header)
    found.require_refiner(header.file)
    text_dtype, text_device = text_dtype or dtype, text_device or device
    if found.kind == "SDXL refiner":
        config = config or CONFIGS / "sdxl_refiner"
        require_places(header, (UNET, VAE, SDXL_TEXT))
        with torch.device("meta"):
            second = CLIPTextModelWithProjection(CLIPTextConfig(**read_config(config / "text_encoder_2")))
        unet = load_unet(path, config / "unet", device, dtype)
        fill(path, header, SDXL_TEXT, second, partial(convert_open_clip, second, SDXL_TEXT), text_device, text_dtype)
        return SdxlRefiner(unet, second)
    config = config or CONFIGS / "sd15"
    if not (config / "vae").is_dir() or not (config / "text_encoder").is_dir():
        raise WeightsFault(f"The configurations in {config} are none of Stable Diffusion 1.5, which {header.file} is.")
    require_places(header, (UNET, VAE, SD15_TEXT))
    with torch.device("meta"):
        first = CLIPTextModel(CLIPTextConfig(**read_config(config / "text_encoder")))
        vae = AutoencoderKL.from_config(read_config(config / "vae"))
    unet = load_unet(path, config / "unet", device, dtype)
    fill(path, header, SD15_TEXT, first, convert_ldm_clip_checkpoint, text_device, text_dtype)
    fill(path, header, VAE, vae, partial(convert_vae, vae), device, vae_dtype or dtype)
    return Sd15Refiner(unet, first, vae)


def own_vae_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """What the VAE of Stable Diffusion 1.5 is run in beside a UNet of `dtype`: that of SDXL overflows in float16, and
    this one does not."""
    return torch.float32 if device.type == "cpu" else dtype
