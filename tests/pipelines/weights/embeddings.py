"""A naive writer of embedding files, in each layout that there is."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors.torch import save_file
from torch import Tensor

from pipelines.weights.family import Family

Layout = Callable[[Tensor, Tensor], dict[str, Tensor]]

LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "kohya": lambda narrow, wide: {"clip_l": narrow, "clip_g": wide},
        "kohya, half precision": lambda narrow, wide: {"clip_l": narrow.half(), "clip_g": wide.half()},
        "names swapped": lambda narrow, wide: {"clip_g": narrow, "clip_l": wide},
        "pivotal tuning": lambda narrow, wide: {"text_encoders_0": narrow, "text_encoders_1": wide},
        "one tensor": lambda narrow, wide: {"emb_params": torch.cat([narrow, wide], dim=1)},
        "named by its token": lambda narrow, wide: {"<cat>": torch.cat([narrow, wide], dim=1)},
    }
)


def vectors_of(family: Family, words: str) -> tuple[Tensor, Tensor]:
    """What both text encoders read for words: (tokens, width) each."""
    narrow, wide = (
        encoder.get_input_embeddings().weight[tokenizer(words, add_special_tokens=False).input_ids].detach().clone()
        for tokenizer, encoder in zip(family.tokenizers, family.text_encoders, strict=True)
    )
    return narrow, wide


def write(path: Path, tensors: Mapping[str, Tensor]) -> Path:
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, path)
    return path
