"""LoRAs of random weights for a family, as files of kohya's layout."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pipelines.weights.family import Family

CHANGE = 0.3  # deviation of a change, in deviations of the weight that it changes


def write_lora(
    path: Path,
    family: Family,
    rank: int,
    seed: int,
    of_unet: Sequence[str],
    of_text: Sequence[str] = (),
    alpha: float | None = None,
) -> Path:
    """Write a LoRA of these layers, which are named by the ends of their names. alpha: None for the rank."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for name, weight in _layers(family, of_unet, of_text):
        down = torch.randn(rank, *weight.shape[1:], generator=generator)
        up = torch.randn(len(weight), rank, *[1] * (weight.ndim - 2), generator=generator)
        size = CHANGE * float(weight.std()) * rank**-0.5
        tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up * size}
        tensors[f"{name}.alpha"] = torch.tensor(float(rank) if alpha is None else alpha)
    save_file(tensors, path)
    return path


def _layers(family: Family, of_unet: Sequence[str], of_text: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
    first, second = family.text_encoders
    for prefix, model, ends in (
        ("lora_unet_", family.unet, of_unet),
        ("lora_te1_text_model_", first, of_text),
        ("lora_te2_text_model_", second, of_text),
    ):
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d) and name.endswith(tuple(ends)):
                yield prefix + name.removeprefix("text_model.").replace(".", "_"), module.weight.detach()
