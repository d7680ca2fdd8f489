"""LoRAs of the tiny UNet, and the variants that they make."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pipelines.weights.variant_spec import LoraRef, VariantSpec
from pipelines.weights.variants import Variant
from tests.pipelines.weights import tiny

QUERY = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
PLENTY = 2**30


def unet_lora(path: Path, seed: int = 0) -> Path:
    names = {f"lora_unet_{QUERY.replace('.', '_')}": torch.zeros(16, 16)}
    return tiny.write_kohya(path, {**names, "lora_unet_conv_in": torch.zeros(8, 4, 3, 3)}, seed=seed)


def text_lora(path: Path) -> Path:
    name = "lora_te2_text_model_encoder_layers_0_self_attn_v_proj"
    return tiny.write_kohya(path, {name: torch.zeros(8, 8)})


def of(
    *loras: tuple[Path, float], performance: Sequence[tuple[Path, float]] = (), control: bool = False
) -> VariantSpec:
    """loras: the row's adapters."""
    return VariantSpec(
        performance=tuple(LoraRef(*lora) for lora in performance),
        adapters=tuple(LoraRef(*lora) for lora in loras),
        controls=("canny",) if control else (),
    )


def query(variant: Variant) -> Tensor:
    return variant.unet.get_parameter(f"{QUERY}.weight")
