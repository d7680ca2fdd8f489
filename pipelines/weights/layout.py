"""The original SDXL single-file layout: where each parameter of the four models lies in a checkpoint.

A checkpoint holds the UNet, the VAE and both text encoders under one prefix each. All but one part differ from
diffusers and transformers in names alone; the second text encoder (OpenCLIP) also stores the three projections of its
attention as one tensor and its last projection transposed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from pipelines.errors import WeightsFault
from pipelines.weights.keys import original_name

UNET = "model.diffusion_model."
VAE = "first_stage_model."
FIRST_TEXT = "conditioner.embedders.0.transformer."
SECOND_TEXT = "conditioner.embedders.1.model."

OPEN_CLIP = (
    ("embeddings.token_embedding.weight", "token_embedding.weight"),
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("final_layer_norm.", "ln_final."),
    ("encoder.layers.", "transformer.resblocks."),
    (".layer_norm1.", ".ln_1."),
    (".layer_norm2.", ".ln_2."),
    (".mlp.fc1.", ".mlp.c_fc."),
    (".mlp.fc2.", ".mlp.c_proj."),
    (".self_attn.out_proj.", ".attn.out_proj."),
)
FUSED = ("q_proj", "k_proj", "v_proj")
VAE_ATTENTION = (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out"))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a parameter lies. part: which third of the stored tensor it is; transposed: stored the other way round."""

    key: str
    part: int | None = None
    transposed: bool = False

    def read(self, stored: Tensor, like: Tensor) -> Tensor:
        """The parameter, in the shape of `like`, from the tensor under `key`."""
        value = stored if self.part is None else stored.chunk(3)[self.part]
        value = value.T if self.transposed else value
        if value.shape != like.shape and value.shape[: like.ndim] == like.shape and value.numel() == like.numel():
            value = value.reshape(like.shape)  # the VAE's attention is stored as 1x1 convolutions
        if value.shape != like.shape:
            raise WeightsFault(f"{self.key} has shape {tuple(value.shape)}, the configuration says {tuple(like.shape)}")
        return value


def unet_places(unet: nn.Module, config: Mapping[str, object]) -> dict[str, Place]:
    """Name in diffusers -> place, of each parameter of a UNet of any depth."""
    return {name: Place(UNET + original_name(name, config)) for name, _ in unet.named_parameters()}


def vae_places(vae: nn.Module, levels: int) -> dict[str, Place]:
    """Name in diffusers -> place, of each parameter of a VAE with `levels` resolutions."""
    return {name: Place(VAE + _vae_name(name, levels)) for name, _ in vae.named_parameters()}


def first_text_places(encoder: nn.Module) -> dict[str, Place]:
    """Name in transformers -> place, for the first text encoder, which is stored as transformers had it."""
    return {name: Place(f"{FIRST_TEXT}text_model.{_clip_name(name)}") for name, _ in encoder.named_parameters()}


def second_text_places(encoder: nn.Module) -> dict[str, Place]:
    """Name in transformers -> place, for the second text encoder, which is stored in OpenCLIP's layout."""
    return dict(_open_clip(encoder))


def _clip_name(name: str) -> str:
    # transformers 5 dropped the inner prefix of one of its two text models
    return name.removeprefix("text_model.")


def _open_clip(encoder: nn.Module) -> Iterator[tuple[str, Place]]:
    for name, _ in encoder.named_parameters():
        if name == "text_projection.weight":
            yield name, Place(SECOND_TEXT + "text_projection", transposed=True)
            continue
        original = _clip_name(name)
        for ours, theirs in OPEN_CLIP:
            original = original.replace(ours, theirs)
        head, _, tail = original.rpartition(".self_attn.")
        projection, _, kind = tail.partition(".")
        if projection in FUSED:
            yield name, Place(f"{SECOND_TEXT}{head}.attn.in_proj_{kind}", part=FUSED.index(projection))
        else:
            yield name, Place(SECOND_TEXT + original)


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
