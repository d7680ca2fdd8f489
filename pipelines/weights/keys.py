"""What the original SDXL layout calls a UNet's tensors, for any depth (fooocus-facts 6.7). diffusers, which reads the
layout, has no way back to it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from diffusers.loaders.single_file_utils import DIFFUSERS_TO_LDM_MAPPING

from pipelines.errors import WeightsFault

_UNET: Any = DIFFUSERS_TO_LDM_MAPPING["unet"]
_TOP: Mapping[str, str] = MappingProxyType(
    {
        ours.removesuffix(".weight"): original.removesuffix(".weight")
        for part in ("layers", "addition_embed_type")
        for ours, original in _UNET[part].items()
    }
)
_RESNET = MappingProxyType(
    {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    }
)


def original_name(name: str, config: Mapping[str, Any]) -> str:
    """The original name of the parameter or module that diffusers calls `name`.

    config: of the UNet2DConditionModel; only `layers_per_block` and `up_block_types` matter.
    Raises WeightsFault for a name that the SDXL architecture does not have.
    """
    module, _, kind = name.rpartition(".")
    places = config["layers_per_block"] + 1  # of a block
    match name.split("."):
        case _ if name in _TOP:
            return _TOP[name]
        case _ if module in _TOP:
            return f"{_TOP[module]}.{kind}"
        case ["mid_block", "resnets", at, part, *inner] if part in _RESNET:
            found = ["middle_block", str(2 * int(at)), _RESNET[part]]
        case ["mid_block", "attentions", _, *inner] if inner:
            found = ["middle_block", "1"]
        case ["down_blocks", block, "downsamplers", _, "conv", *inner]:  # behind the block's layers
            found = ["input_blocks", str((int(block) + 1) * places), "0", "op"]
        case ["up_blocks", block, "upsamplers", _, *inner] if inner:  # behind the parts of the block's last layer
            behind = "2" if "CrossAttn" in config["up_block_types"][int(block)] else "1"
            found = ["output_blocks", str((int(block) + 1) * places - 1), behind]
        case ["down_blocks" | "up_blocks" as side, block, "resnets" | "attentions" as parts, at, part, *inner]:
            place = int(block) * places + int(at)
            found = ["input_blocks", str(1 + place)] if side == "down_blocks" else ["output_blocks", str(place)]
            found += ["0", _RESNET[part]] if parts == "resnets" else ["1", part]
        case _:
            raise WeightsFault(f"{name} is not a part of an SDXL UNet.")
    return ".".join([*found, *inner])
