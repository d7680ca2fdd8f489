"""Gate 8: a picture that is shown is taken over, as far as it is told to; the adapters are loaded by diffusers."""

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from benchmarks.pocket.gates.mark import Mark
from models.pocket import names
from models.pocket.vision import weigh
from pipelines.weights.family import Family
from training.pocket.image_prompts import KINDS, asked, score
from training.pocket.lessons import Reader
from training.pocket.vision import features, values

WANTED = 0.8  # share of pictures that take the colours over
FILES: Mapping[str, str] = MappingProxyType({"image_prompt": names.IMAGE_PROMPT, "face_prompt": names.FACE_PROMPT})


@torch.no_grad()
def takes_over(family: Family, kind: str, count: int, steps: int = 30) -> list[Mark]:
    """Without words for an image prompt; for a face with words for all but its colour."""
    folder = family.catalogue.root / "image_prompt"
    unet: Any = copy.deepcopy(family.unet)
    tensors = {name: tensor.float() for name, tensor in load_file(folder / FILES[kind]).items()}
    unet._load_ip_adapter_weights([_parts(tensors)], low_cpu_mem_usage=False)
    resampler = unet.encoder_hid_proj.image_projection_layers[0]
    unet.encoder_hid_proj = None  # tokens are given, as those of no picture do not come from one
    tower: Any = CLIPVisionModelWithProjection.from_pretrained(folder / "clip_vision", local_files_only=True)
    tower.float()
    examples = asked(KINDS[kind], count)
    negative = load_file(folder / names.NO_PICTURE)["data"].float()
    tokens = resampler(features(tower, values([each.reference for each in examples])))
    shown = torch.cat([negative.expand(count, -1, -1), tokens])
    reader = Reader(family.tokenizers[0], family.text_encoders)
    found = []
    for weight in (0.0, 0.5, 1.0):
        weigh(unet, weight)
        found.append(score(reader, unet, examples, shown, steps))
    off, half, whole = (found_at["colour"] for found_at in found)
    return [
        Mark(f"{kind}, weight 1: colour", whole, WANTED),
        Mark(f"{kind}, weight 1: background", found[2]["background"], WANTED),
        Mark(f"{kind}, weight 0.5: colour", half, off),
        Mark(f"{kind}, weight 0: colour", off, 0.3, below=True),
    ]


def _parts(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = tensor
    return parts
