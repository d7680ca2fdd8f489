"""Loading a single-file SDXL checkpoint with the configuration that lies beside it. Nothing is ever fetched."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from pipelines.errors import WeightsFault
from pipelines.weights.keys import original_name

UNET, VAE = "model.diffusion_model.", "first_stage_model."
FIRST_TEXT, SECOND_TEXT = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."

# in real checkpoints beside the weights, and recomputed or unused by the models
IDLE = ("position_ids", "logit_scale", "attn_mask")


@dataclass(frozen=True, eq=False)
class Components:
    """The four models of a checkpoint, in evaluation mode, without gradients."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoders: tuple[CLIPTextModel, CLIPTextModelWithProjection]


class Stored:
    """A tensor of a file that is not read yet: what diffusers' converters do to it is done when it is read.

    So a model is held against a file before anything is read, and is filled tensor by tensor.
    """

    def __init__(self, key: str, like: Tensor, read: Callable[[], Tensor]) -> None:
        """like: has the shape, and no memory."""
        self.key, self.like, self.read = key, like, read
        self.shape, self.ndim = like.shape, like.ndim

    @property
    def T(self) -> "Stored":
        return self._changed(lambda tensor: tensor.permute(*reversed(range(tensor.ndim))))

    def __getitem__(self, at: Any) -> "Stored":
        return self._changed(lambda tensor: tensor[at])

    def clone(self) -> "Stored":
        return self._changed(Tensor.clone)

    def detach(self) -> "Stored":
        return self

    contiguous = detach

    def _changed(self, change: Callable[[Tensor], Tensor]) -> "Stored":
        try:
            return Stored(self.key, change(self.like), lambda: change(self.read()))
        except IndexError as fault:
            raise WeightsFault(f"{self.key} has shape {tuple(self.shape)}, which no SDXL checkpoint has") from fault


Convert = Callable[[dict[str, Stored]], Mapping[str, Stored]]  # by original name -> by the model's name


def load_checkpoint(path: Path, config: Path, device: torch.device, dtype: torch.dtype) -> Components:
    """Load a checkpoint in the original SDXL layout.

    config: the folder with a `config.json` for each of unet, vae, text_encoder and text_encoder_2; it alone says how
    deep and wide the models are. Raises WeightsFault unless each parameter finds its tensor, in its shape, and each
    tensor its parameter.
    """
    with torch.device("meta"):
        vae = AutoencoderKL.from_config(_config(config / "vae"))
        first = CLIPTextModel(CLIPTextConfig(**_config(config / "text_encoder")))
        second = CLIPTextModelWithProjection(CLIPTextConfig(**_config(config / "text_encoder_2")))
    unet = load_unet(path, config / "unet", device, dtype)
    _load(path, VAE, vae, partial(convert_ldm_vae_checkpoint, config=vae.config), device, dtype)
    _load(path, FIRST_TEXT, first, convert_ldm_clip_checkpoint, device, dtype)
    _load(path, SECOND_TEXT, second, partial(convert_open_clip_checkpoint, second, prefix=SECOND_TEXT), device, dtype)
    return Components(unet, vae, (first, second))


def load_unet(path: Path, config: Path, device: torch.device, dtype: torch.dtype) -> UNet2DConditionModel:
    """The UNet of a checkpoint in the original SDXL layout, of which nothing else is looked at.

    config: the folder with its `config.json`. Raises as `load_checkpoint` does.
    """
    with torch.device("meta"):
        unet: UNet2DConditionModel = UNet2DConditionModel.from_config(_config(config))
    _load(path, UNET, unet, partial(convert_ldm_unet_checkpoint, config=unet.config), device, dtype)
    return unet


def _config(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError) as fault:
        raise WeightsFault(f"{folder / 'config.json'} cannot be read: {fault}") from fault
    return found


def _load(
    path: Path, prefix: str, module: nn.Module, convert: Convert, device: torch.device, dtype: torch.dtype
) -> None:
    """Give a module that was made without memory the tensors under a prefix."""
    stored: dict[str, Stored] = {}
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            for key in file.keys():  # noqa: SIM118  (not a mapping)
                if key.startswith(prefix) and not key.endswith(IDLE):
                    like = torch.empty(file.get_slice(key).get_shape() or [1], device="meta")
                    stored[key] = Stored(key, like, partial(file.get_tensor, key))
            found = _matched(path.name, prefix, module, stored, convert)
            state = {name: each.read().to(device, dtype).contiguous() for name, each in found.items()}
    except (OSError, SafetensorError) as fault:
        raise WeightsFault(f"{path} cannot be read as safetensors: {fault}") from fault
    module.load_state_dict(state, strict=True, assign=True)
    for name, buffer in module.named_buffers():
        if not name.endswith("position_ids"):
            raise WeightsFault(f"{type(module).__name__} has a buffer that no checkpoint fills: {name}")
        owner = module.get_submodule(name.rpartition(".")[0])
        owner.register_buffer("position_ids", torch.arange(buffer.shape[-1], device=device)[None], persistent=False)
    module.eval().requires_grad_(False)


def _matched(
    file: str, prefix: str, module: nn.Module, stored: dict[str, Stored], convert: Convert
) -> Mapping[str, Stored]:
    """What each parameter of a module is read from."""
    wanted = dict(module.named_parameters())
    try:
        converted = convert(stored)
    except KeyError as fault:
        raise WeightsFault(f"{file} lacks {prefix}{fault.args[0]}; is it a full SDXL checkpoint?") from fault
    found: dict[str, Stored] = {}
    elements: Counter[str] = Counter()  # that are read, by key
    for name, each in converted.items():
        # transformers 5 dropped the inner prefix of one of its two text models
        ours = name if name in wanted else name.removeprefix("text_model.")
        if ours not in wanted or each is None:
            continue
        if each.shape != wanted[ours].shape:
            told = f"{tuple(each.shape)}, the configuration says {tuple(wanted[ours].shape)}"
            raise WeightsFault(f"{each.key} in {file} has shape {told}")
        found[ours] = each
        elements[each.key] += each.like.numel()
    for name in wanted:
        if name not in found:
            lost = _original(name, prefix, module, found)
            raise WeightsFault(f"{file} lacks {lost}; is it a full SDXL checkpoint?")
    stray = sorted(key for key, each in stored.items() if key not in elements or elements[key] != each.like.numel())
    if stray:
        raise WeightsFault(f"{file} has {len(stray)} tensors that the configuration has no place for: {stray[:3]}")
    return found


def _original(name: str, prefix: str, module: Any, found: Mapping[str, Stored]) -> str:
    """What a file would call a tensor that it lacks. diffusers converts the other way alone; so past the UNet, the bias
    of a weight tells or the weight of a bias, and where there is none, the model's own name has to do."""
    if prefix == UNET:
        return UNET + original_name(name, module.config)
    stem, _, kind = name.rpartition(".")
    other = "bias" if kind == "weight" else "weight"
    sibling = found.get(f"{stem}.{other}")
    return prefix + name if sibling is None else sibling.key.removesuffix(other) + kind
