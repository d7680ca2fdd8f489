"""The original SDXL single-file layout, as a checkpoint is written: parameters of the four models -> stored tensors.

A checkpoint holds the UNet, the VAE and both text encoders under one prefix each. All but two parts differ from
diffusers and transformers in names alone: the VAE's attention is stored as 1x1 convolutions; of the second text
encoder (OpenCLIP) the three projections of an attention are one tensor and the last projection is transposed.
"""

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from pipelines.weights.checkpoint import FIRST_TEXT, SECOND_TEXT, UNET, VAE
from pipelines.weights.keys import original_name

OPEN_CLIP = (
    ("embeddings.token_embedding.weight", "token_embedding.weight"),
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("final_layer_norm.", "ln_final."),
    ("encoder.layers.", "transformer.resblocks."),
    (".layer_norm1.", ".ln_1."),
    (".layer_norm2.", ".ln_2."),
    (".mlp.fc1.", ".mlp.c_fc."),
    (".mlp.fc2.", ".mlp.c_proj."),
    (".self_attn.", ".attn."),
)
FUSED = ("q_proj", "k_proj", "v_proj")
VAE_ATTENTION = (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out"))


def stored_unet(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """Of any depth."""
    return {UNET + original_name(name, unet.config): tensor.detach() for name, tensor in unet.named_parameters()}


def stored_vae(vae: AutoencoderKL) -> dict[str, Tensor]:
    """With any number of resolutions."""
    levels = len(vae.config["block_out_channels"])
    stored = {VAE + _vae_name(name, levels): tensor.detach() for name, tensor in vae.named_parameters()}
    return {
        key: tensor[:, :, None, None] if ".attn_1." in key and tensor.ndim == 2 else tensor
        for key, tensor in stored.items()
    }


def stored_first_text(encoder: CLIPTextModel) -> dict[str, Tensor]:
    """As transformers had it before its fifth version, which dropped the inner prefix."""
    return {f"{FIRST_TEXT}text_model.{_bare(name)}": tensor.detach() for name, tensor in encoder.named_parameters()}


def stored_second_text(encoder: CLIPTextModelWithProjection, prefix: str = SECOND_TEXT) -> dict[str, Tensor]:
    """prefix: in a refiner's checkpoint this encoder is the only one."""
    tensors = {_bare(name): tensor.detach() for name, tensor in encoder.named_parameters()}
    stored = {prefix + "text_projection": tensors.pop("text_projection.weight").T}
    for name, tensor in tensors.items():
        original = name
        for ours, theirs in OPEN_CLIP:
            original = original.replace(ours, theirs)
        if f".{FUSED[0]}." in name:
            thirds = [tensors[name.replace(FUSED[0], part)] for part in FUSED]
            stored[prefix + original.replace(f"{FUSED[0]}.", "in_proj_")] = torch.cat(thirds)
        elif not any(f".{part}." in name for part in FUSED):
            stored[prefix + original] = tensor
    return stored


def _bare(name: str) -> str:
    return name.removeprefix("text_model.")


def _vae_name(name: str, levels: int) -> str:
    parts = name.split(".")
    if parts[0] in ("quant_conv", "post_quant_conv") or parts[1] in ("conv_in", "conv_out"):
        return name
    side, part, *rest = parts
    if part == "conv_norm_out":
        return ".".join([side, "norm_out", *rest])
    if part == "mid_block":
        kind, at, *inner = rest
        if kind == "resnets":
            return ".".join([side, "mid", f"block_{int(at) + 1}", *_vae_resnet(inner)])
        tail = ".".join(inner)
        for ours, theirs in VAE_ATTENTION:
            tail = tail.replace(f"{ours}.", f"{theirs}.", 1) if tail.startswith(f"{ours}.") else tail
        return ".".join([side, "mid", "attn_1", tail])
    level, kind, at, *inner = rest
    place = int(level) if part == "down_blocks" else levels - 1 - int(level)
    direction = "down" if part == "down_blocks" else "up"
    if kind == "resnets":
        return ".".join([side, direction, str(place), "block", at, *_vae_resnet(inner)])
    return ".".join([side, direction, str(place), f"{direction}sample", *inner])


def _vae_resnet(inner: list[str]) -> list[str]:
    return ["nin_shortcut" if inner[0] == "conv_shortcut" else inner[0], *inner[1:]]
