"""Inpaint head and patch as Fooocus publishes them, in safetensors that a pull makes of them (fooocus-facts 6.7)."""

from collections.abc import Container, Iterator
from pathlib import Path

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pipelines.errors import WeightsFault
from pipelines.weights.header import read_header
from pipelines.weights.keys import original_name

HEAD = "head"  # the only tensor of a head's file
PREFIX = "diffusion_model."  # of a patch's keys; then comes the original name of a UNet's parameter
LEVELS, RANGE = ".levels", ".range"  # of each: its change as uint8, and the least and the most of it


def read_head(path: Path) -> Tensor:
    """The head, (width, 5, 3, 3) fp32: a convolution over a mask and four latents.

    Raises WeightsFault when the file cannot be read or holds no head.
    """
    try:
        with safe_open(path, framework="pt") as file:
            stray = sorted({*file.keys()} - {HEAD})
            head: Tensor = file.get_tensor(HEAD).float()
    except (OSError, SafetensorError) as fault:
        raise WeightsFault(f"The inpaint head {path} cannot be read: {fault}") from fault
    if stray:
        raise WeightsFault(f"The inpaint head {path} has {len(stray)} tensors without a place: {stray[:3]}")
    if head.shape[1:] != (5, 3, 3):
        raise WeightsFault(f"The inpaint head {path} has shape {tuple(head.shape)}")
    return head


def head_feature(head: Tensor, mask: Tensor, around: Tensor) -> Tensor:
    """(n, width, h, w), which is added to what the UNet's first convolution says.

    mask: (n, 1, h, w), 1 is to be drawn. around: (n, 4, h, w) scaled latents of the picture with its hole grayed.
    """
    seen = nn.functional.pad(torch.cat([mask, around], dim=1), (1, 1, 1, 1), mode="replicate")
    return nn.functional.conv2d(seen, head)


def patched_keys(path: Path, unet: UNet2DConditionModel) -> dict[str, str]:
    """Of each parameter of the UNet that the patch changes its name and the name of its change, by the header alone.

    Raises WeightsFault when the file cannot be read or is not made for this UNet.
    """
    stored = read_header(path).tensors
    unused, found = set(stored), {}
    for name, parameter in unet.named_parameters():
        key = PREFIX + original_name(name, unet.config)
        if key + LEVELS not in unused:
            continue
        if key + RANGE not in unused:
            raise WeightsFault(f"The inpaint patch {path} lacks {key + RANGE}")
        if (stored[key + LEVELS].shape, stored[key + RANGE].shape) != (parameter.shape, (2,)):
            raise WeightsFault(f"The inpaint patch {path} does not fit the UNet: {name} has another shape")
        unused -= {key + LEVELS, key + RANGE}
        found[name] = key
    if unused:
        raise WeightsFault(f"The inpaint patch {path} has {len(unused)} tensors without a place: {sorted(unused)[:3]}")
    return found


def patch_changes(
    path: Path, unet: UNet2DConditionModel, wanted: Container[str] | None = None
) -> Iterator[tuple[str, Tensor]]:
    """Of each parameter of the UNet that the patch changes its name and its change, fp32, one after the other.

    They are not held together, for they are as large as the UNet. wanted: the names of those that are read; None means
    all. Raises as `patched_keys` does, before the first.
    """
    found = patched_keys(path, unet)
    try:
        with safe_open(path, framework="pt") as file:
            for name, key in found.items():
                if wanted is not None and name not in wanted:
                    continue
                least, most = file.get_tensor(key + RANGE).float().unbind()
                yield name, file.get_tensor(key + LEVELS).float() / 255 * (most - least) + least
    except (OSError, SafetensorError) as fault:
        raise WeightsFault(f"The inpaint patch {path} cannot be read: {fault}") from fault
