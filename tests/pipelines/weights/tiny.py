"""Networks of the SDXL architecture that are small enough to be built in every test."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from pipelines.memory.residency import RESIDENT

WIDTH = 12  # of the text context, and of the pooled text


def unet(seed: int = 0, channels: tuple[int, ...] = (8, 16, 16)) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    levels = len(channels)
    model = UNet2DConditionModel(
        block_out_channels=channels,
        down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * (levels - 1)),
        up_block_types=(*["CrossAttnUpBlock2D"] * (levels - 1), "UpBlock2D"),
        transformer_layers_per_block=tuple(range(1, levels + 1)),
        attention_head_dim=tuple(width // 4 for width in channels),
        cross_attention_dim=WIDTH,
        norm_num_groups=4,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=4 * 6 + WIDTH,
    )
    return model.eval().requires_grad_(False)


def text_encoders(seed: int = 1) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=50,
        bos_token_id=48,
        eos_token_id=49,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=8,
    )
    first, second = CLIPTextModel(config).eval(), CLIPTextModelWithProjection(config).eval()
    return first.requires_grad_(False), second.requires_grad_(False)


class _Family(SimpleNamespace):
    unet: UNet2DConditionModel

    @property
    def home(self) -> torch.device:
        return self.unet.conv_in.weight.device


def family(controls: Mapping[str, Path] | None = None) -> Any:
    """What a `VariantStore` asks of a family."""
    known = controls or {}
    return _Family(
        unet=unet(),
        text_encoders=text_encoders(),
        residency=RESIDENT,
        catalogue=SimpleNamespace(checkpoint=Path("tiny.safetensors"), part=lambda kind: known[kind]),
    )


def predict(model: UNet2DConditionModel, **more: Any) -> Tensor:
    """A fixed call of the UNet."""
    with torch.no_grad():
        return model(**call(), added_cond_kwargs=added(), **more).sample


def call(rows: int = 2, side: int = 8, tokens: int = 5) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return {
        "sample": torch.randn(rows, 4, side, side, generator=generator),
        "timestep": torch.linspace(900, 100, rows),
        "encoder_hidden_states": torch.randn(rows, tokens, WIDTH, generator=generator),
    }


def added(rows: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(8)
    return {
        "text_embeds": torch.randn(rows, WIDTH, generator=generator),
        "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]]).repeat(rows, 1),
    }


def low_rank(outputs: int, inputs: tuple[int, ...], rank: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(down, up) of a linear layer, inputs = (n,), or of a convolution, inputs = (n, kernel, kernel)."""
    generator = torch.Generator().manual_seed(seed)
    ones = (1,) * (len(inputs) - 1)
    return (
        torch.randn(rank, *inputs, generator=generator) / 4,
        torch.randn(outputs, rank, *ones, generator=generator) / 4,
    )


def write_kohya(path: Path, layers: Mapping[str, Tensor], alpha: float | None = 1.0, seed: int = 0) -> Path:
    """A LoRA of kohya's layout: for each name the weight that it changes."""
    tensors: dict[str, Tensor] = {}
    for at, (name, weight) in enumerate(layers.items()):
        down, up = low_rank(weight.shape[0], tuple(weight.shape[1:]), seed=seed + at)
        tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
        if alpha is not None:
            tensors[f"{name}.alpha"] = torch.tensor(alpha)
    save_file(tensors, path)
    return path
