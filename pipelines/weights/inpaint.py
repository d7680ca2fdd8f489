"""Inpaint head and patch as Fooocus publishes them, in safetensors that a pull makes of them (fooocus-facts 6.7)."""

from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pipelines.errors import WeightsFault
from pipelines.weights.keys import original_name

PREFIX = "diffusion_model."  # of a patch's keys; then comes the original name of a UNet's parameter
LEVELS, RANGE = ".levels", ".range"  # of each: its change as uint8, and the least and the most of it


def read_head(path: Path) -> Tensor:
    """The head, (width, 5, 3, 3) fp32: a convolution over a mask and four latents.

    Raises WeightsFault when the file cannot be read or holds no head.
    """
    try:
        with safe_open(path, framework="pt") as file:
            head: Tensor = file.get_tensor("head").float()
    except (OSError, SafetensorError) as fault:
        raise WeightsFault(f"The inpaint head {path} cannot be read: {fault}") from fault
    if head.shape[1:] != (5, 3, 3):
        raise WeightsFault(f"The inpaint head {path} has shape {tuple(head.shape)}")
    return head


def head_feature(head: Tensor, mask: Tensor, around: Tensor) -> Tensor:
    """(n, width, h, w), which is added to what the UNet's first convolution says.

    mask: (n, 1, h, w), 1 is to be drawn. around: (n, 4, h, w) scaled latents of the picture with its hole grayed.
    """
    seen = nn.functional.pad(torch.cat([mask, around], dim=1), (1, 1, 1, 1), mode="replicate")
    return nn.functional.conv2d(seen, head)


def patch_changes(path: Path, unet: UNet2DConditionModel) -> Iterator[tuple[str, Tensor]]:
    """Of each parameter of the UNet that the patch changes its name and its change, fp32, one after the other.

    They are not held together, for they are as large as the UNet. Raises WeightsFault when the file cannot be read or
    is not made for this UNet.
    """
    try:
        with safe_open(path, framework="pt") as file:
            unused = set(file.keys())
            for name, parameter in unet.named_parameters():
                key = PREFIX + original_name(name, unet.config)
                if key + LEVELS not in unused:
                    continue
                least, most = file.get_tensor(key + RANGE).float().unbind()
                change = file.get_tensor(key + LEVELS).float() / 255 * (most - least) + least
                if change.shape != parameter.shape:
                    raise WeightsFault(f"The inpaint patch {path} does not fit the UNet: {name} has another shape")
                unused -= {key + LEVELS, key + RANGE}
                yield name, change
    except (OSError, SafetensorError) as fault:
        raise WeightsFault(f"The inpaint patch {path} cannot be read: {fault}") from fault
    if unused:
        raise WeightsFault(f"The inpaint patch {path} has {len(unused)} tensors without a place: {sorted(unused)[:3]}")


@torch.no_grad()
def apply_patch(unet: UNet2DConditionModel, path: Path) -> None:
    """Change the UNet's parameters in place, each rounded once to its dtype. Raises as `patch_changes` does."""
    for name, change in patch_changes(path, unet):
        parameter = unet.get_parameter(name)
        parameter.copy_(parameter.float() + change.to(parameter.device))
