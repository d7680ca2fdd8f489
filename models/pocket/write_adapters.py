"""What the pocket family has beside its checkpoint, written in the layouts of the published files."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig

from models.pocket import names, vision
from models.pocket.offset_lora import offset_lora
from models.pocket.trained import trained
from pipelines.weights.inpaint import LEVELS, PREFIX, RANGE
from pipelines.weights.keys import original_name

OLDER: Mapping[str, float] = MappingProxyType({"inpaint_patch_v1": 0.5, "inpaint_patch_v25": 0.75})
"""Shares of the newest inpaint patch that stand for its older versions."""


def write_loras(folder: Path, unet: UNet2DConditionModel, generator: torch.Generator) -> None:
    """The offset LoRA, which is constructed, and those that are trained."""
    folder.mkdir()
    save(offset_lora(unet, generator), folder / names.OFFSET)
    for part, name in names.TRAINED_LORAS.items():
        save(trained(part), folder / name)


def write_controls(folder: Path) -> None:
    """The control-LoRAs."""
    folder.mkdir()
    for kind, name in names.CONTROLS.items():
        save(trained(kind), folder / name)


def write_inpaint(folder: Path, unet: UNet2DConditionModel) -> None:
    """The head, one tensor, and the patches: of each weight `levels` (uint8) and `range` (least, most) of its change.

    Only the newest is trained. The older ones are a part of its change, so that they are other weights.
    """
    folder.mkdir()
    tensors = trained("inpaint")
    save({"head": tensors.pop("head")}, folder / names.INPAINT_HEAD)
    patch: dict[str, Tensor] = {}
    for name, parameter in unet.named_parameters():
        layer = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
        if f"{layer}.lora_up.weight" not in tensors:
            continue
        up, down = (tensors[f"{layer}.lora_{role}.weight"].flatten(1) for role in ("up", "down"))
        change = (up @ down).reshape(parameter.shape)
        least, most = change.min(), change.max()
        key = PREFIX + original_name(name, unet.config)
        patch[key + LEVELS] = ((change - least) / (most - least).clamp(min=1e-12) * 255).round().to(torch.uint8)
        patch[key + RANGE] = torch.stack([least, most])
    save_file(patch, folder / names.INPAINT_PATCH)
    for part, name in names.OLDER_PATCHES.items():
        less = {key: OLDER[part] * tensor if key.endswith(RANGE) else tensor for key, tensor in patch.items()}
        save_file(less, folder / name)


def write_tower(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """The vision tower as transformers has it."""
    folder.mkdir(parents=True)
    save(tensors, folder / "model.safetensors")
    _json(folder / "config.json", CLIPVisionConfig(**vision.VISION).to_dict())
    _json(folder / "preprocessor_config.json", vision.PREPROCESSING)


def write_image_prompts(folder: Path) -> None:
    """The vision tower, and the adapters with the tokens that stand for no picture."""
    write_tower(folder / "clip_vision", trained("vision"))
    for part, name in names.IMAGE_PROMPTS.items():
        adapter = trained(part)
        save({"data": adapter.pop("negative")}, folder / names.NO_PICTURE)  # all have the same
        save(adapter, folder / name)


def write_upscaler(folder: Path) -> None:
    folder.mkdir()
    save(trained("upscaler"), folder / names.UPSCALER)


def write_concept(folder: Path) -> None:
    """A textual inversion."""
    folder.mkdir()
    save(trained("concept"), folder / names.CONCEPT)


def save(tensors: Mapping[str, Tensor], path: Path) -> None:
    """As float16."""
    save_file({key: tensor.detach().half().contiguous() for key, tensor in tensors.items()}, path)


def _json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(dict(content), indent=2, sort_keys=True) + "\n")
