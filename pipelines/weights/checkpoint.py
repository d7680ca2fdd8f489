"""Loading a single-file SDXL checkpoint by its configuration. Nothing is ever fetched."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
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
from pipelines.weights.header import Header, read_header
from pipelines.weights.keys import original_name
from pipelines.weights.recognition import recognise

UNET, VAE = "model.diffusion_model.", "first_stage_model."
FIRST_TEXT, SECOND_TEXT = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."

# In real checkpoints beside the weights, and recomputed or unused by the models. What is not named here is not idle.
IDLE_ENDS = (
    ".position_ids",
    ".logit_scale",
    ".attn_mask",
    "scaled_fp8",  # ComfyUI's markers, and the scales of what a layer reads
    ".comfy_quant",
    ".scale_input",
    ".input_scale",
)
IDLE_BEGINNINGS = (
    "model_ema.",  # the slow copy of the weights: those that were trained are drawn with
    f"{VAE}model_ema.",
    f"{VAE}loss.",  # the VAE's discriminator
    "loss.",
    "denoiser.",  # sgm's noise levels
    "optimizer",  # with all of Lightning's below
    "lr_scheduler",
    "callbacks.",
    "loops.",
)
IDLE = frozenset(
    {
        "v_pred",  # markers of how it was trained, which `recognise` reads
        "ztsnr",
        "epoch",
        "global_step",
        f"{FIRST_TEXT}text_projection.weight",  # SDXL uses no pooled text of its first encoder
        "conditioner.embedders.0.text_projection",
        "cond_stage_model.text_projection",
        "cond_stage_model.transformer.text_projection.weight",
        # ldm's tables of noise levels
        "betas",
        "alphas_cumprod",
        "alphas_cumprod_prev",
        "sqrt_alphas_cumprod",
        "sqrt_one_minus_alphas_cumprod",
        "log_one_minus_alphas_cumprod",
        "sqrt_recip_alphas_cumprod",
        "sqrt_recipm1_alphas_cumprod",
        "posterior_variance",
        "posterior_log_variance_clipped",
        "posterior_mean_coef1",
        "posterior_mean_coef2",
        "lvlb_weights",
        "log_sigmas",
        "sigmas",
        "logvar",
        "scale_factor",
    }
)
MATRIX = 2  # dimensions of a linear layer's weight, which some files hold as a convolution of one pixel
SCALES = ("scale_weight", "weight_scale")  # of a tensor in ComfyUI's scaled fp8, older and newer
OLD_ATTENTION = MappingProxyType({"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"})


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

    def scaled(self, scale: "Stored") -> "Stored":
        """Times a scale, of all or of each output, in float32: the product of two fp8 numbers is none."""
        outputs = self.shape[0] if self.ndim else 1
        if scale.like.numel() not in (1, outputs):
            raise WeightsFault(f"{scale.key} has shape {tuple(scale.shape)}, which is no scale of {tuple(self.shape)}")
        ones = [1] * max(self.ndim - 1, 0)

        def change(tensor: Tensor) -> Tensor:
            factor = scale.like if tensor.is_meta else scale.read()
            return tensor.float() * factor.float().view(-1, *ones)

        return self._changed(change)

    def _changed(self, change: Callable[[Tensor], Tensor]) -> "Stored":
        try:
            return Stored(self.key, change(self.like), lambda: change(self.read()))
        except IndexError as fault:
            raise WeightsFault(f"{self.key} has shape {tuple(self.shape)}, which no SDXL checkpoint has") from fault


Convert = Callable[[dict[str, Stored]], Mapping[str, Stored]]  # by original name -> by the model's name


def load_checkpoint(
    path: Path,
    config: Path,
    device: torch.device,
    dtype: torch.dtype,
    *,
    vae_dtype: torch.dtype | None = None,
    text_dtype: torch.dtype | None = None,
) -> Components:
    """Load a checkpoint in the original SDXL layout, its tensors in any dtype that safetensors has, or in scaled fp8.

    config: the folder with a `config.json` for each of unet, vae, text_encoder and text_encoder_2; it alone says how
    deep and wide the models are. dtype: of the UNet, and of what has none of its own. What the UNet predicts is not
    looked at: `recognise` tells it. Raises WeightsFault for a file of another kind, and unless each parameter finds its
    tensor, in its shape, and each tensor its parameter, or is known to be idle.
    """
    header = read_header(path)
    recognise(header).require_base(header.file)
    require_places(header, (UNET, VAE, FIRST_TEXT, SECOND_TEXT))
    with torch.device("meta"):
        vae = AutoencoderKL.from_config(read_config(config / "vae"))
        first = CLIPTextModel(CLIPTextConfig(**read_config(config / "text_encoder")))
        second = CLIPTextModelWithProjection(CLIPTextConfig(**read_config(config / "text_encoder_2")))
    text_dtype = text_dtype or dtype
    unet = load_unet(path, config / "unet", device, dtype)
    fill(path, header, VAE, vae, partial(convert_vae, vae), device, vae_dtype or dtype)
    fill(path, header, FIRST_TEXT, first, convert_ldm_clip_checkpoint, device, text_dtype)
    fill(path, header, SECOND_TEXT, second, partial(convert_open_clip, second, SECOND_TEXT), device, text_dtype)
    return Components(unet, vae, (first, second))


def load_unet(path: Path, config: Path, device: torch.device, dtype: torch.dtype) -> UNet2DConditionModel:
    """The UNet of a checkpoint in the original layout, of which nothing else is looked at.

    config: the folder with its `config.json`. Raises as `load_checkpoint` does.
    """
    with torch.device("meta"):
        unet: UNet2DConditionModel = UNet2DConditionModel.from_config(read_config(config))
    fill(path, read_header(path), UNET, unet, partial(convert_ldm_unet_checkpoint, config=unet.config), device, dtype)
    return unet


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a model. Raises WeightsFault when it cannot be read."""
    return read_json(folder / "config.json")


def read_json(path: Path) -> dict[str, Any]:
    """Raises WeightsFault when it cannot be read."""
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as fault:
        raise WeightsFault(f"{path} cannot be read: {fault}") from fault
    if not isinstance(found, dict):
        raise WeightsFault(f"{path} cannot be read: it holds no JSON object.")
    return found


def require_places(header: Header, known: tuple[str, ...]) -> None:
    """Refuse tensors outside the models with these prefixes that nobody knows, by WeightsFault: they may change what
    the models are to compute."""
    stray = sorted(key for key in header.tensors if not key.startswith(known))
    _refuse_stray(header.file, [key for key in stray if not _idle(key)])


def _refuse_stray(file: str, stray: Sequence[str]) -> None:
    if stray:
        raise WeightsFault(f"{file} has {len(stray)} tensors that the configuration has no place for: {stray[:3]}")


def _idle(key: str) -> bool:
    return key in IDLE or key.endswith(IDLE_ENDS) or key.startswith(IDLE_BEGINNINGS)


def convert_vae(vae: AutoencoderKL, stored: dict[str, Stored]) -> Mapping[str, Stored]:
    """By diffusers' names, which some files have under the original prefix, or by the original ones."""
    if not any(key.startswith((f"{VAE}encoder.down_blocks.", f"{VAE}decoder.up_blocks.")) for key in stored):
        original: Convert = partial(convert_ldm_vae_checkpoint, config=vae.config)
        return original(stored)
    found: dict[str, Stored] = {}
    for key, each in stored.items():
        module, _, kind = key.removeprefix(VAE).rpartition(".")
        owner, _, last = module.rpartition(".")
        if ".attentions." in module:
            module = f"{owner}.{OLD_ATTENTION.get(last, last)}"  # as diffusers had it before 0.18
            each = each[(..., *[0] * (each.ndim - MATRIX))] if each.ndim > MATRIX else each
        found[f"{module}.{kind}"] = each
    return found


def convert_open_clip(
    encoder: CLIPTextModelWithProjection, prefix: str, stored: dict[str, Stored]
) -> Mapping[str, Stored]:
    """As diffusers does, and with a last projection that is stored as a linear layer has it, not transposed."""
    original: Convert = partial(convert_open_clip_checkpoint, encoder, prefix=prefix)
    linear = f"{prefix}text_projection.weight"
    return {**original(stored), **({"text_projection.weight": stored[linear]} if linear in stored else {})}


def fill(
    path: Path,
    header: Header,
    prefix: str,
    module: nn.Module,
    convert: Convert,
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Give a module that was made without memory the tensors under a prefix, one at a time; on `meta` none is read."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            found = _matched(header.file, prefix, module, _stored(header, prefix, file.get_tensor), convert)
            state = {
                name: (each.like if device.type == "meta" else each.read()).to(device, dtype).contiguous()
                for name, each in found.items()
            }
    except (OSError, SafetensorError) as fault:
        raise WeightsFault(f"{path} cannot be read as safetensors: {fault}") from fault
    module.load_state_dict(state, strict=True, assign=True)
    for name, buffer in module.named_buffers():
        if not name.endswith("position_ids"):
            raise WeightsFault(f"{type(module).__name__} has a buffer that no checkpoint fills: {name}")
        owner = module.get_submodule(name.rpartition(".")[0])
        owner.register_buffer("position_ids", torch.arange(buffer.shape[-1], device=device)[None], persistent=False)
    module.eval().requires_grad_(False)


def _stored(header: Header, prefix: str, read: Callable[[str], Tensor]) -> dict[str, Stored]:
    """What a file has under a prefix, but for what is idle. What is stored scaled is given with its scale."""
    stored = {
        key: Stored(key, torch.empty(each.shape or (1,), device="meta"), partial(read, key))
        for key, each in header.tensors.items()
        if key.startswith(prefix) and not _idle(key)
    }
    for key in list(stored):
        module, _, kind = key.rpartition(".")
        weight = f"{module}.weight"
        if kind in SCALES and weight in stored:
            stored[weight] = stored[weight].scaled(stored.pop(key))
    return stored


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
    _refuse_stray(file, stray)
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
