"""A low-rank change of a network's layers, in training, and the form that LoRA files have."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class Adapter(nn.Module):
    """Changes the convolutions and linear layers of `network`, which stays as it is. Begins as no change at all.

    chosen: whether a layer of that name is among them.
    """

    def __init__(self, network: nn.Module, rank: int, chosen: Callable[[str], bool] = lambda name: True) -> None:
        super().__init__()
        self._network = [network]  # in a list, so that its weights are not this module's
        self._names = [name for name, _ in _layers(network) if chosen(name)]
        self.downs, self.ups = nn.ParameterDict(), nn.ParameterDict()
        for name in self._names:
            weight: Any = network.get_submodule(name).weight
            outputs, *inputs = weight.shape
            narrow = min(rank, outputs, weight[0].numel())
            down = torch.randn(narrow, *inputs) / weight[0].numel() ** 0.5
            self.downs[_key(name)] = nn.Parameter(down)
            self.ups[_key(name)] = nn.Parameter(torch.zeros(outputs, narrow, *[1] * (len(inputs) - 1)))

    def begin_as(self, stored: Mapping[str, Tensor]) -> None:
        """Be the change of a file as `stored` makes it, of the same layers and rank."""
        with torch.no_grad():
            for name in self._names:
                key = _key(name)
                self.downs[key].copy_(stored[f"lora_unet_{key}.lora_down.weight"])
                self.ups[key].copy_(stored[f"lora_unet_{key}.lora_up.weight"])

    def weights(self, scale: float = 1.0) -> dict[str, Tensor]:
        """The changed weights by their name in the network."""
        return {f"{name}.weight": self._weight(name) + scale * self._change(name) for name in self._names}

    def changed(self, scale: float = 1.0) -> "Changed":
        """The network with the change."""
        return Changed(self._network[0], self.weights(scale))

    def changes(self) -> dict[str, Tensor]:
        """What is added to weights, by their name in the network. Without gradients."""
        return {f"{name}.weight": self._change(name).detach() for name in self._names}

    def parts(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Of each layer its name in the network, and what goes down and up again."""
        for name in self._names:
            yield name, self.downs[_key(name)].detach(), self.ups[_key(name)].detach()

    def stored(self) -> dict[str, Tensor]:
        """As a kohya LoRA file names it. With the rank for alpha the change counts as it is."""
        found: dict[str, Tensor] = {}
        for name, down, up in self.parts():
            found[f"lora_unet_{_key(name)}.lora_down.weight"] = down
            found[f"lora_unet_{_key(name)}.lora_up.weight"] = up
            found[f"lora_unet_{_key(name)}.alpha"] = torch.tensor(float(len(down)))
        return found

    def _weight(self, name: str) -> Tensor:
        weight: Any = self._network[0].get_submodule(name).weight
        found: Tensor = weight
        return found

    def _change(self, name: str) -> Tensor:
        change: Tensor = self.ups[_key(name)].flatten(1) @ self.downs[_key(name)].flatten(1)
        return change.reshape(self._weight(name).shape)


class Changed:
    """A network that answers with other weights."""

    def __init__(self, network: nn.Module, weights: Mapping[str, Tensor]) -> None:
        self._network, self._weights = network, dict(weights)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return functional_call(self._network, self._weights, arguments, named)


def _layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            yield name, module


def _key(name: str) -> str:
    return name.replace(".", "_")
