"""A model family in memory: the models of its checkpoint, its tokenizers and its catalogue."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pipelines.catalogue import Catalogue
from pipelines.errors import WeightsFault
from pipelines.memory.plan import MemoryPlan
from pipelines.memory.residency import RESIDENT, Residency, residency_of
from pipelines.unet.layers import install_layers
from pipelines.unet.rows import RowContext
from pipelines.weights.checkpoint import load_checkpoint, read_config
from pipelines.weights.header import read_header
from pipelines.weights.recognition import recognise

LEGACY_END = 2  # an end token in configs that means: the largest id
ROW = 77  # tokens that a CLIP text model reads at once


@dataclass(frozen=True, eq=False)
class Family:
    """Everything that a picture is drawn with. The models are shared by all variants: never change them in place.

    device: where the models run, to which `residency` brings them. dtype: of the UNet; the VAE and the text encoders
    have their own. rows: what the layers of its UNets read during a call.
    """

    catalogue: Catalogue
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoders: tuple[CLIPTextModel, CLIPTextModelWithProjection]
    tokenizers: tuple[CLIPTokenizer, CLIPTokenizer]
    device: torch.device
    dtype: torch.dtype
    rows: RowContext
    residency: Residency = RESIDENT

    @property
    def home(self) -> torch.device:
        """Where its weights lie always, and so does what is merged or loaded beside them."""
        return self.residency.home(self.unet.conv_in.weight).device


def load_family(folder: Path, device: torch.device, dtype: torch.dtype, plan: MemoryPlan | None = None) -> Family:
    """Load a family from its folder, in a dtype for each of its models (`vae_dtype`, and float32 for text encoders).

    device: where the models run. dtype: of the UNet. plan: by one that is not resident the models are loaded into the
    host's memory, else straight to the device. Raises WeightsFault when anything is missing or does not fit, and when
    the checkpoint says that it was trained otherwise than the family does.
    """
    catalogue = Catalogue.open(folder)
    header = read_header(catalogue.checkpoint)
    recognise(header).require_training(header.file, catalogue.file.prediction, catalogue.file.zero_terminal_snr)
    parts = load_checkpoint(
        catalogue.checkpoint,
        catalogue.config,
        device if plan is None or plan.resident else torch.device("cpu"),
        dtype,
        vae_dtype=vae_dtype(read_config(catalogue.config / "vae"), device, dtype),
        text_dtype=torch.float32,
    )
    for parameter in parts.vae.parameters():
        if parameter.dim() == 4:  # decodes 1024x1024 on two cores twice as fast as the default layout; the UNet is not
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    first = _tokenizer(catalogue.config / "tokenizer", parts.text_encoders[0])
    second = _tokenizer(catalogue.config / "tokenizer_2", parts.text_encoders[1])
    rows = install_layers(parts.unet)
    residency = residency_of(plan, device)
    return Family(
        catalogue, parts.unet, parts.vae, parts.text_encoders, (first, second), device, dtype, rows, residency
    )


def vae_dtype(config: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """What a VAE is run in beside a UNet of `dtype`.

    On a CPU float32. Elsewhere the UNet's, but for bfloat16 instead of float16 unless its configuration says that
    it does not overflow: `force_upcast` false.
    """
    if device.type == "cpu":
        return torch.float32
    overflows = config.get("force_upcast", True)  # as diffusers has it
    return torch.bfloat16 if dtype is torch.float16 and overflows else dtype


def _tokenizer(folder: Path, encoder: CLIPTextModel | CLIPTextModelWithProjection) -> CLIPTokenizer:
    """A missing folder would silently give a tokenizer of two tokens, so what was loaded is held against the model."""
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        if not (folder / name).is_file():
            raise WeightsFault(f"The tokenizer in {folder} lacks {name}.")
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    if len(tokenizer) != encoder.config.vocab_size:
        raise WeightsFault(
            f"The tokenizer in {folder} has {len(tokenizer)} tokens, its text encoder {encoder.config.vocab_size}."
        )
    if tokenizer.model_max_length != ROW:
        raise WeightsFault(f"tokenizer_config.json in {folder} must say model_max_length {ROW}.")
    pools = encoder.config.eos_token_id
    if pools == LEGACY_END:  # as SDXL's own files say it, transformers pools at the largest id
        pools = encoder.config.vocab_size - 1
    if tokenizer.eos_token_id != pools:
        raise WeightsFault(f"The text encoder beside {folder} pools at another token than its tokenizer ends with.")
    return tokenizer
