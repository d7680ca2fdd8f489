"""The pocket family's image-prompt adapter, as diffusers loads it and as ours."""

import copy
from typing import Any

import pytest
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor

from pipelines.unet.rows import ImageAdapter
from pipelines.weights.family import Family
from tests.pipelines.unet.calling import plain


@pytest.fixture(scope="module")
def diffusers_adapter(pocket_family: Family) -> UNet2DConditionModel:
    """The UNet with the family's image-prompt file, loaded by diffusers; it is given tokens, not features."""
    path = pocket_family.catalogue.root / "image_prompt" / "ip-adapter-plus_sdxl_vit-h.safetensors"
    parts: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in load_file(path).items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor.float()
    unet: Any = copy.deepcopy(plain(pocket_family))
    unet._load_ip_adapter_weights([parts], low_cpu_mem_usage=False)
    unet.encoder_hid_proj = None
    return unet  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def adapter(diffusers_adapter: UNet2DConditionModel) -> ImageAdapter:
    return ImageAdapter(
        {
            name.removesuffix(".processor"): (processor.to_k_ip[0].weight, processor.to_v_ip[0].weight)
            for name, processor in diffusers_adapter.attn_processors.items()
            if hasattr(processor, "to_k_ip")
        }
    )
