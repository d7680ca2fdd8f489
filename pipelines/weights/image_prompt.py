"""Image prompts as IP-Adapter publishes them: how a vision tower sees pictures and how a UNet attends to them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pipelines.errors import WeightsFault

EDGE = 224  # pixels of a side, as a vision tower sees pictures
MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's
DEVIATION = (0.26862954, 0.26130258, 0.27577711)


def tower_input(pictures: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
    """(n, 3, EDGE, EDGE), as the tower sees (height, width, 3) pictures: stretched and normalised."""
    small = [np.asarray(Image.fromarray(each).resize((EDGE, EDGE), Image.Resampling.LANCZOS)) for each in pictures]
    found = (torch.from_numpy(np.stack(small)).float() / 255 - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    return found.permute(0, 3, 1, 2)


def tower_features(tower: Any, pixels: Tensor) -> Tensor:
    """(n, patches + 1, width): what the last but one layer says of `tower_input`, which the adapter is given."""
    found: Tensor = tower(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]
    return found


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
