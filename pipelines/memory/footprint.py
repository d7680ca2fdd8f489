"""The footprint of a family: what its models take on a device, found by configurations and headers alone."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from pipelines.memory.counting import counted_on_meta
from pipelines.memory.plan import COMMON, FACTOR, Footprint
from pipelines.parts import Part
from pipelines.weights.checkpoint import UNET, VAE, read_config
from pipelines.weights.esrgan import upscaler_dtype
from pipelines.weights.family import vae_dtype
from pipelines.weights.header import Header, read_header
from pipelines.weights.keys import original_name
from pipelines.weights.recognition import recognise
from pipelines.weights.refiner import own_vae_dtype

if TYPE_CHECKING:
    from pipelines.catalogue import Catalogue

TOKENS = 77
SIDE = COMMON // FACTOR  # of the latent that is counted at
CONTROLS: tuple[Part, ...] = ("canny", "cpds")
WHOLE: tuple[Part, ...] = ("image_prompt", "face_prompt", "image_prompt_negative", "vision", "inpaint_head")


def measure(catalogue: "Catalogue", device: torch.device, dtype: torch.dtype) -> Footprint:
    """The footprint of a family on a device, which need not be there. dtype: of the UNet, and of all that is run beside
    it; text encoders are run in float32, and VAE and upscaler as `vae_dtype` and `upscaler_dtype` have it.

    Raises WeightsFault when a configuration or a header cannot be read.
    """
    unet = unet_of(catalogue.config, dtype)
    controls = {
        part: _control_elements(unet, catalogue.part(part)) * dtype.itemsize for part in CONTROLS if catalogue.has(part)
    }
    optional = {**controls, **_optional(catalogue, unet, device, dtype)}
    return of_models(catalogue.name, catalogue.config, unet, device, optional, controlled=bool(controls))


def of_models(
    name: str,
    config: Path,
    unet: UNet2DConditionModel,
    device: torch.device,
    optional: Mapping[Part, int],
    *,
    controlled: bool,
) -> Footprint:
    """The footprint of the models in the folder `config`. unet: theirs, on `meta`. controlled: rows may have a control
    image, whose residuals their calls hold too."""
    vae_config = read_config(config / "vae")
    with torch.device("meta"):
        vae = AutoencoderKL.from_config(vae_config)
        first = CLIPTextModel(CLIPTextConfig(**read_config(config / "text_encoder")))
        second = CLIPTextModelWithProjection(CLIPTextConfig(**read_config(config / "text_encoder_2")))
    nn.Module.to(vae, vae_dtype(vae_config, device, unet.dtype))  # diffusers' own warns of what does not matter here
    return Footprint(
        name,
        bytes_of(unet),
        bytes_of(first) + bytes_of(second),
        bytes_of(vae),
        math.ceil(row_bytes(unet, SIDE, controlled=controlled) / SIDE**2),
        math.ceil(vae_bytes(vae, SIDE) / SIDE**2),
        optional,
    )


def unet_of(config: Path, dtype: torch.dtype) -> UNet2DConditionModel:
    """The UNet in a folder of configurations, on `meta`."""
    with torch.device("meta"):
        unet: UNet2DConditionModel = UNet2DConditionModel.from_config(read_config(config / "unet"))
    nn.Module.to(unet, dtype)
    return unet


def bytes_of(model: nn.Module) -> int:
    """Of a model's parameters."""
    return sum(parameter.nbytes for parameter in model.parameters())


@torch.no_grad()
def row_bytes(unet: UNet2DConditionModel, side: int, *, controlled: bool, rows: int = 1) -> int:
    """What a UNet on `meta` holds while it runs rows of side x side latents, besides its parameters. controlled: with
    the residuals of a control network."""
    with torch.device("meta"), counted_on_meta() as count:
        run_row(unet, side, controlled=controlled, rows=rows)
    return count.most


@torch.no_grad()
def vae_bytes(vae: AutoencoderKL, side: int) -> int:
    """What a VAE on `meta` holds while it decodes a side x side latent, or encodes its picture if that is more."""
    most = []
    for code, shape in (
        (vae.decode, (1, vae.config["latent_channels"], side, side)),
        (vae.encode, (1, vae.config["in_channels"], side * FACTOR, side * FACTOR)),
    ):
        with torch.device("meta"), counted_on_meta() as count:
            code(torch.zeros(shape, dtype=vae.dtype), return_dict=False)
        most.append(count.most)
    return max(most)


def run_row(unet: UNet2DConditionModel, side: int, *, controlled: bool, rows: int = 1) -> None:
    """Run a UNet on rows of zeros, on torch's default device."""
    config, dtype = unet.config, unet.dtype
    pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
    down = middle = None
    if controlled:
        *down, middle = (torch.zeros(rows, width, at, at, dtype=dtype) for width, at in _skips(config, side))
    unet(
        torch.zeros(rows, config["in_channels"], side, side, dtype=dtype),
        torch.zeros(rows),
        encoder_hidden_states=torch.zeros(rows, TOKENS, config["cross_attention_dim"], dtype=dtype),
        added_cond_kwargs={
            "text_embeds": torch.zeros(rows, pooled, dtype=dtype),
            "time_ids": torch.zeros(rows, 6),
        },
        down_block_additional_residuals=down,
        mid_block_additional_residual=middle,
        return_dict=False,
    )


def _skips(config: Mapping[str, Any], side: int) -> Iterator[tuple[int, int]]:
    """Width and side of each residual of a control network, the middle one last."""
    widths = config["block_out_channels"]
    yield widths[0], side
    for at, width in enumerate(widths):
        yield from [(width, side)] * config["layers_per_block"]
        if at < len(widths) - 1:
            side //= 2
            yield width, side
    yield widths[-1], side


def _control_elements(unet: UNet2DConditionModel, path: Path) -> int:
    """What the control network of a control-LoRA has of its own: layers of the UNet that it changes, and what its file
    stores in full."""
    ours = {original_name(name, unet.config): each.numel() for name, each in unet.named_parameters()}
    elements = 0
    for name, stored in read_header(path).tensors.items():
        layer, _, kind = name.rpartition(".")
        if kind == "up":
            elements += ours.get(f"{layer}.weight", 0)
        elif kind != "down":
            elements += _numel(stored.shape)
    return elements


def _optional(
    catalogue: "Catalogue", unet: UNet2DConditionModel, device: torch.device, dtype: torch.dtype
) -> dict[Part, int]:
    """What is run on the device of the rest, but for control networks."""
    found: dict[Part, int] = {
        part: _elements(catalogue.part(part)) * dtype.itemsize for part in WHOLE if catalogue.has(part)
    }
    if catalogue.has("inpaint_patch"):
        found["inpaint_patch"] = bytes_of(unet)  # it changes nearly all of it
    if catalogue.has("refiner"):
        found["refiner"] = refiner_bytes(read_header(catalogue.part("refiner")), device, dtype)
        if catalogue.has("interposer"):
            found["interposer"] = _elements(catalogue.part("interposer")) * torch.float32.itemsize
    if catalogue.has("upscaler"):
        found["upscaler"] = _elements(catalogue.part("upscaler")) * upscaler_dtype(device).itemsize
    return found


def refiner_bytes(header: Header, device: torch.device, dtype: torch.dtype) -> int:
    """What a refiner holds: its UNet, and the VAE where its latents are its own. Its text encoder is the family's."""
    own = recognise(header).kind == "Stable Diffusion 1.5"
    held = {UNET: dtype, **({VAE: own_vae_dtype(device, dtype)} if own else {})}
    return sum(
        _numel(each.shape) * kind.itemsize
        for prefix, kind in held.items()
        for name, each in header.tensors.items()
        if name.startswith(prefix)
    )


def _elements(path: Path) -> int:
    """Of the tensors of a file, or of the weights in a folder."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    headers = [read_header(file) for file in files]
    return sum(_numel(each.shape) for header in headers for each in header.tensors.values())


def _numel(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()
