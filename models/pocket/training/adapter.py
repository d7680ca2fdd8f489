"""A low-rank change of a UNet's layers, in training, and the form that LoRA files have."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class Adapter(nn.Module):
    """Changes every convolution and linear layer of `unet`, which stays as it is. Begins as no change at all."""

    def __init__(self, unet: nn.Module, rank: int) -> None:
        super().__init__()
        self.downs, self.ups = nn.ParameterDict(), nn.ParameterDict()
        for name, layer in _layers(unet):
            outputs, *inputs = layer.weight.shape
            narrow = min(rank, outputs, layer.weight[0].numel())
            down = torch.randn(narrow, *inputs) / layer.weight[0].numel() ** 0.5
            self.downs[_key(name)] = nn.Parameter(down)
            self.ups[_key(name)] = nn.Parameter(torch.zeros(outputs, narrow, *[1] * (len(inputs) - 1)))

    def weights(self, unet: nn.Module) -> dict[str, Tensor]:
        """The changed weights by their name in `unet`."""
        return {f"{name}.weight": layer.weight + self._change(name, layer.weight) for name, layer in _layers(unet)}

    def stored(self) -> dict[str, Tensor]:
        """As a kohya LoRA file names it. With the rank for alpha the change counts as it is."""
        found: dict[str, Tensor] = {}
        for name, down in self.downs.items():
            found[f"lora_unet_{name}.lora_down.weight"] = down.detach()
            found[f"lora_unet_{name}.lora_up.weight"] = self.ups[name].detach()
            found[f"lora_unet_{name}.alpha"] = torch.tensor(float(len(down)))
        return found

    def _change(self, name: str, weight: Tensor) -> Tensor:
        change: Tensor = self.ups[_key(name)].flatten(1) @ self.downs[_key(name)].flatten(1)
        return change.reshape(weight.shape)


class Changed:
    """A UNet that answers with other weights."""

    def __init__(self, unet: nn.Module, weights: Mapping[str, Tensor]) -> None:
        self._unet, self._weights = unet, dict(weights)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return functional_call(self._unet, self._weights, arguments, named)


def _layers(unet: nn.Module) -> Iterator[tuple[str, nn.Conv2d | nn.Linear]]:
    for name, module in unet.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            yield name, module


def _key(name: str) -> str:
    return name.replace(".", "_")
