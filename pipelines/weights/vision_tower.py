"""The vision tower of CLIP, by the names of transformers or of OpenCLIP, alone or of a whole CLIP model."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from pipelines.weights.checkpoint import Stored, fill, read_config
from pipelines.weights.header import read_header
from pipelines.weights.image_prompt import require

FILE = "model.safetensors"

# what a whole CLIP model has for texts, in either's names
_READING = ("text_model.", "text_projection.", "logit_scale")
_OPEN_READING = (
    *("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection", "attn_mask"),
    *("logit_scale", "logit_bias"),
)
_OPEN: Mapping[str, str] = MappingProxyType(
    {
        "embeddings.class_embedding": "class_embedding",
        "embeddings.position_embedding.weight": "positional_embedding",
        "embeddings.patch_embedding": "conv1",
        "pre_layrnorm": "ln_pre",
        "post_layernorm": "ln_post",
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "self_attn.out_proj": "attn.out_proj",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
)
_JOINED = ("q_proj", "k_proj", "v_proj")  # one tensor in OpenCLIP, behind one another


def read_tower(folder: Path, device: torch.device, dtype: torch.dtype) -> CLIPVisionModelWithProjection:
    """The tower in a folder with `config.json` and `model.safetensors`; what the file has for texts is left.

    Raises WeightsFault when a file cannot be read, and unless each parameter finds its tensor, in its shape, and each
    tensor its parameter.
    """
    path = folder / FILE
    with torch.device("meta"):
        tower = CLIPVisionModelWithProjection(CLIPVisionConfig(**read_config(folder)))
    header = read_header(path)
    opened = any(key.startswith("visual.") for key in header.tensors)
    left = _OPEN_READING if opened else _READING
    seen = {key: each for key, each in header.tensors.items() if not key.startswith(left)}
    places = {name: open_name(name) if opened else (name, 0) for name, _ in tower.named_parameters()}
    require(header, (key for key, _ in places.values()), "a CLIP vision tower")

    def convert(stored: dict[str, Stored]) -> Mapping[str, Stored]:
        return {name: _part(name, stored[key], at) for name, (key, at) in places.items()} if opened else stored

    fill(path, replace(header, tensors=seen), "", tower, convert, device, dtype)
    return tower


def open_name(name: str) -> tuple[str, int]:
    """What OpenCLIP calls a parameter of transformers', and which third of that tensor it is where it has three."""
    if name == "visual_projection.weight":
        return "visual.proj", 0
    module, _, kind = name.removeprefix("vision_model.").rpartition(".")
    if module == "embeddings" or name.endswith("position_embedding.weight"):
        return f"visual.{_OPEN[name.removeprefix('vision_model.')]}", 0
    if module in _OPEN:
        return f"visual.{_OPEN[module]}.{kind}", 0
    _, _, layer, part = module.split(".", 3)
    place = f"visual.transformer.resblocks.{layer}"
    joined = part.removeprefix("self_attn.")
    if joined in _JOINED:
        return f"{place}.attn.in_proj_{kind}", _JOINED.index(joined)
    return f"{place}.{_OPEN[part]}.{kind}", 0


def _part(name: str, stored: Stored, third: int) -> Stored:
    """The tensor of a parameter in OpenCLIP's: it has a projection transposed."""
    if name == "visual_projection.weight":
        return stored.T
    if not any(f".{part}." in name for part in _JOINED):
        return stored
    width = stored.shape[0] // len(_JOINED)
    return stored[width * third : width * (third + 1)]
