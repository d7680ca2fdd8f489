"""The SDXL architecture with random weights, at its true size and at pocket size, and what it costs in arithmetic."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from pipelines.conditioning import Conditioning
from pipelines.unet.layers import install_layers
from pipelines.unet.rows import RowContext
from pipelines.weights.bases import clone_sharing_parameters

TOKENS = 77
FACTOR = 8
LATENT_CHANNELS = 4

UNET: Mapping[str, Any] = MappingProxyType(
    {
        "sample_size": 128,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "block_out_channels": [320, 640, 1280],
        "layers_per_block": 2,
        "transformer_layers_per_block": [1, 2, 10],
        "attention_head_dim": [5, 10, 20],
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    }
)
VAE: Mapping[str, Any] = MappingProxyType(
    {
        "sample_size": 1024,
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "block_out_channels": [128, 256, 512, 512],
        "layers_per_block": 2,
        "scaling_factor": 0.13025,
        "force_upcast": False,
    }
)
FIRST_TEXT: Mapping[str, Any] = MappingProxyType(
    {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
)
SECOND_TEXT: Mapping[str, Any] = MappingProxyType(
    {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 20,
        "projection_dim": 1280,
        "hidden_act": "gelu",
    }
)
VOCABULARY = 49408

# The same blocks, narrow and shallow: for trying the benchmark where there is no GPU.
POCKET_UNET: Mapping[str, Any] = MappingProxyType(
    {
        **UNET,
        "block_out_channels": [32, 32, 32],
        "layers_per_block": 1,
        "transformer_layers_per_block": [1, 1, 1],
        "attention_head_dim": [1, 1, 1],
        "cross_attention_dim": 32,
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 80,
    }
)
POCKET_VAE: Mapping[str, Any] = MappingProxyType({**VAE, "block_out_channels": [32] * 4, "layers_per_block": 1})
POCKET_TEXT: Mapping[str, Any] = MappingProxyType(
    {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1, "projection_dim": 16}
)


@dataclass(frozen=True, eq=False)
class Models:
    """The networks of SDXL on one device.

    plain: the UNet as diffusers builds it. unet: the same weights in layers that read the row context `rows`.
    """

    plain: UNet2DConditionModel
    unet: UNet2DConditionModel
    rows: RowContext
    vae: AutoencoderKL
    texts: tuple[CLIPTextModel, CLIPTextModelWithProjection]
    device: torch.device
    dtype: torch.dtype

    def conditioning(self, seed: int) -> Conditioning:
        """A prompt's conditioning, random."""
        generator = torch.Generator().manual_seed(seed)
        width, pooled = self.unet.config["cross_attention_dim"], pooled_width(self.unet)
        context = torch.randn(TOKENS, width, generator=generator)
        return Conditioning(context.to(self.device), torch.randn(pooled, generator=generator).to(self.device))

    def size_ids(self, side: int) -> Tensor:
        return torch.tensor([side, side, 0, 0, side, side], dtype=torch.float32, device=self.device)

    def encode_texts(self) -> None:
        """Run both text encoders on one prompt's tokens."""
        for text in self.texts:
            text(torch.zeros(1, TOKENS, dtype=torch.long, device=self.device), output_hidden_states=True)


@dataclass(frozen=True)
class Cost:
    """Operations, a multiplication and an addition counted as two: of a UNet row and of a VAE decode at a size."""

    unet_row: float
    decode: float


def build(*, pocket: bool, device: torch.device, dtype: torch.dtype) -> Models:
    """Make the networks with random weights, in `dtype` on `device` from the start."""
    torch.manual_seed(0)
    with default_dtype(dtype), device:
        unet = UNet2DConditionModel.from_config(dict(POCKET_UNET if pocket else UNET))
        vae = AutoencoderKL.from_config(dict(POCKET_VAE if pocket else VAE))
        first = CLIPTextModel(_text(POCKET_TEXT if pocket else FIRST_TEXT, pocket=pocket))
        second = CLIPTextModelWithProjection(_text(POCKET_TEXT if pocket else SECOND_TEXT, pocket=pocket))
    for module in (unet, vae, first, second):
        module.eval().requires_grad_(False)
    for parameter in vae.parameters():
        if parameter.dim() == 4:  # as `pipelines.weights.family` loads it
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    ours = clone_sharing_parameters(unet, {})
    return Models(unet, ours, install_layers(ours), vae, (first, second), device, dtype)


def in_float32(models: Models) -> Models:
    """The same weights in float32, for what a UNet's calls need."""
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(dict(models.plain.config))
    unet.load_state_dict({name: tensor.float() for name, tensor in models.plain.state_dict().items()}, assign=True)
    unet.eval().requires_grad_(False)
    ours = clone_sharing_parameters(unet, {})
    return replace(models, plain=unet, unet=ours, rows=install_layers(ours), dtype=torch.float32)


def cost(side: int, *, pocket: bool) -> Cost:
    """What the architecture needs for a picture of side x side, counted on shapes alone."""
    latent = side // FACTOR
    with torch.device("meta"), torch.no_grad():
        unet = UNet2DConditionModel.from_config(dict(POCKET_UNET if pocket else UNET))
        vae = AutoencoderKL.from_config(dict(POCKET_VAE if pocket else VAE))
        x = torch.zeros(1, LATENT_CHANNELS, latent, latent)
        added = {"text_embeds": torch.zeros(1, pooled_width(unet)), "time_ids": torch.zeros(1, 6)}
        with FlopCounterMode(display=False) as rows:
            unet(
                x,
                torch.zeros(1),
                encoder_hidden_states=torch.zeros(1, TOKENS, unet.config["cross_attention_dim"]),
                added_cond_kwargs=added,
            )
        with FlopCounterMode(display=False) as decodes:
            vae.decode(x)
    return Cost(float(rows.get_total_flops()), float(decodes.get_total_flops()))


def pooled_width(unet: UNet2DConditionModel) -> int:
    config = unet.config
    return int(config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"])


def _text(shape: Mapping[str, Any], *, pocket: bool) -> CLIPTextConfig:
    ends: Mapping[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0} if pocket else {}
    return CLIPTextConfig(vocab_size=64 if pocket else VOCABULARY, **shape, **ends)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Inside, new parameters have this dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
