"""A UNet that attends to pictures as diffusers has it, by which adapters are trained and judged."""

from pathlib import Path
from typing import Any

from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pipelines.errors import WeightsFault


def attach_image_prompt(unet: Any, path: Path) -> nn.Module:
    """Let the UNet attend to pictures as the adapter in a safetensors file does, in fp32.

    It is then given pairs for its context: the text's tokens, and a list of one tensor, (n, 1, tokens, width). Returns
    the resampler, which makes tokens (n, tokens, width) of `tower_features`. Raises WeightsFault when the file cannot
    be read or holds no adapter.
    """
    try:
        tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as fault:
        raise WeightsFault(f"The image-prompt adapter {path} cannot be read: {fault}") from fault
    parts: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        if part not in parts:
            raise WeightsFault(f"{name} in {path} is no part of an image-prompt adapter")
        parts[part][rest] = tensor
    if not all(parts.values()):
        raise WeightsFault(f"{path} holds no image-prompt adapter")
    unet._load_ip_adapter_weights([parts], low_cpu_mem_usage=False)
    resampler: nn.Module = unet.encoder_hid_proj.image_projection_layers[0]
    unet.encoder_hid_proj = None  # tokens are given, as those of no picture do not come from one
    return resampler


def weigh_image_prompt(unet: Any, weight: float) -> None:
    """How much pictures count for a UNet with an adapter: 0 is not at all."""
    for processor in unet.attn_processors.values():
        if isinstance(processor, IPAdapterAttnProcessor2_0):
            processor.scale = [weight]
