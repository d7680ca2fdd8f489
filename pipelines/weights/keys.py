"""Names of a UNet's tensors: diffusers' and those of the original SDXL layout, for any depth (fooocus-facts 6.7)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pipelines.errors import WeightsFault

_TOP = MappingProxyType(
    {
        "conv_in": "input_blocks.0.0",
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
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
    for ours, original in _TOP.items():
        if name == ours or name.startswith(ours + "."):
            return original + name.removeprefix(ours)
    part, *rest = name.split(".")
    if part == "mid_block" and len(rest) > 2 and rest[0] in ("resnets", "attentions"):
        kind, at, *inner = rest
        place = 1 if kind == "attentions" else 2 * int(at)
        return ".".join(["middle_block", str(place), *_inner(kind, inner)])
    if part in ("down_blocks", "up_blocks") and len(rest) > 3:
        return _block_name(part, rest, config)
    raise WeightsFault(f"{name} is not a part of an SDXL UNet.")


def original_names(names: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, str]:
    """Original name -> diffusers' name, of each key of `names` (a state dict)."""
    return {original_name(name, config): name for name in names}


def _block_name(part: str, rest: list[str], config: Mapping[str, Any]) -> str:
    block, kind, at, *inner = rest
    layers: int = config["layers_per_block"]
    if part == "down_blocks":
        if kind == "downsamplers":  # a place of its own after the block's layers; its `conv` is called `op`
            return ".".join(["input_blocks", str((int(block) + 1) * (layers + 1)), "0", "op", *inner[1:]])
        place = ["input_blocks", str(1 + int(block) * (layers + 1) + int(at))]
    elif kind == "upsamplers":  # comes after the resnet and the attention of the block's last layer
        last = int(block) * (layers + 1) + layers
        behind = "2" if "CrossAttn" in config["up_block_types"][int(block)] else "1"
        return ".".join(["output_blocks", str(last), behind, *inner])
    else:
        place = ["output_blocks", str(int(block) * (layers + 1) + int(at))]
    return ".".join([*place, "1" if kind == "attentions" else "0", *_inner(kind, inner)])


def _inner(kind: str, inner: list[str]) -> list[str]:
    return [_RESNET[inner[0]], *inner[1:]] if kind == "resnets" else inner
