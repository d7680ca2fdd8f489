"""The layouts in which users have models, made of the pocket model."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines.catalogue import Catalogue
from pipelines.weights.checkpoint import Components
from pipelines.weights.integrity import fault_of

CPU = torch.device("cpu")
Tensors = dict[str, Tensor]


def without(tensors: Tensors, *prefixes: str) -> Tensors:
    return {key: tensor for key, tensor in tensors.items() if not key.startswith(prefixes)}


def only(tensors: Tensors, prefix: str, renamed: str = "") -> Tensors:
    return {renamed + key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def saved(tensors: Tensors, path: Path) -> Path:
    save_file(tensors, path)
    return path


def assert_holds(folder: Path, wanted: Tensors) -> None:
    """The family has this checkpoint, and its record is right."""
    catalogue = Catalogue.open(folder)
    found = load_file(catalogue.checkpoint)
    assert found.keys() == wanted.keys()
    for key, tensor in wanted.items():
        assert torch.equal(found[key], tensor), key
    (path, record), *more = catalogue.file.files.items()
    assert not more
    assert fault_of(folder / path, record, all_bytes=True) is None


def diffusers_folder(components: Components, folder: Path, *, variant: str | None = None, shard: str = "5GB") -> Path:
    """As diffusers and transformers save a pipeline."""
    components.unet.save_pretrained(folder / "unet", variant=variant, max_shard_size=shard)
    components.vae.save_pretrained(folder / "vae", variant=variant, max_shard_size=shard)
    for name, encoder in zip(("text_encoder", "text_encoder_2"), components.text_encoders, strict=True):
        encoder.save_pretrained(folder / name, variant=variant, max_shard_size=shard)
    index = {"_class_name": "StableDiffusionXLPipeline", "text_encoder": ["transformers", "CLIPTextModel"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def schedule(folder: Path, **settings: object) -> None:
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(settings))
