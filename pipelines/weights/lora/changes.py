"""What LoRAs change of a weight: the formulas, and the weight with its changes merged in (fooocus-facts 9.2)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.weights.lora.names import Place


@dataclass(frozen=True, eq=False)
class LowRank:
    """The change of one layer. down: (rank, inputs, ...). up: (outputs, rank, ...). alpha: None means the rank."""

    down: Tensor
    up: Tensor
    alpha: float | None = None

    def fits(self, weight: Tensor) -> bool:
        """Whether the product has the shape of `weight`, that is, whether the file was made for such a model."""
        up, down = self.up.flatten(1), self.down.flatten(1)
        return up.shape[1] == down.shape[0] and (up.shape[0], down.shape[1]) == weight.flatten(1).shape

    def delta(self, weight: Tensor) -> Tensor:
        """alpha/rank * up @ down, float32, in the shape and on the device of `weight`, which it must fit."""
        down = self.down.to(weight.device, torch.float32).flatten(1)
        up = self.up.to(weight.device, torch.float32).flatten(1)
        # `up` of a convolution is 1x1; so the product's columns are input channel by kernel, as in the weight
        scale = 1.0 if self.alpha is None else self.alpha / down.shape[0]
        return (up @ down).reshape(weight.shape) * scale


def upload(layers: Mapping[Place, LowRank], device: torch.device, *, pinned: bool = False) -> Mapping[Place, LowRank]:
    """The same layers on a device, to which they go in one copy for each of their dtypes.

    pinned: through page-locked memory, so that the host does not wait for it; needs a CUDA device.
    """
    if device.type == "cpu":
        return layers
    sides = [side for layer in layers.values() for side in (layer.down, layer.up)]
    there: dict[int, Tensor] = {}
    for dtype in {side.dtype for side in sides}:
        like = [side for side in sides if side.dtype is dtype]
        sizes = [side.numel() for side in like]
        flat = torch.cat([side.flatten() for side in like], out=torch.empty(sum(sizes), dtype=dtype, pin_memory=pinned))
        parts = torch.split_with_sizes(flat.to(device, non_blocking=pinned), sizes)
        there |= {id(side): part.view(side.shape) for side, part in zip(like, parts, strict=True)}
    return {place: LowRank(there[id(layer.down)], there[id(layer.up)], layer.alpha) for place, layer in layers.items()}


@torch.no_grad()
def merged(weight: Tensor, changes: Iterable[tuple[LowRank, float]], more: Tensor | None = None) -> Tensor:
    """`weight` + `more`, of its shape, + the sum of scale * alpha/rank * up @ down: summed in float32, rounded once to
    the weight's dtype."""
    total = weight.detach().to(torch.float32, copy=True)
    if more is not None:
        total += more.to(total.device)
    for layer, scale in changes:
        total += scale * layer.delta(weight)
    return total.to(weight.dtype)
