"""How constructed weights carry values past norms, and compute with them in ResNet blocks.

Group norm and SiLU would lose a picture's levels. So the first channels hold the values, the next minus their sum, and
two more hold C and -C: the mean of all channels is 0 at every place, and their deviation is that of C, whatever the
picture. One norm group over all channels then only scales, and a tile of a picture is seen as the whole picture is. A
lift puts SiLU where it is straight. Inside a block SiLU of a large multiple is a ramp: x where x > 0, otherwise 0.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

ANCHOR = 512.0  # C: nine values of 1 change the deviation by 1e-4, a block's ramps by 2e-3
LIFT = 2.0  # what values stay above 0 with; greater ones would lose more of a value in bfloat16
STRAIGHT = 16.0  # the multiple of a value of 0.5 or more that SiLU gives back, but for 3e-4 of it
STEEP = 256.0  # the multiple of a value of which SiLU is the ramp, but for 1e-3


@dataclass(frozen=True)
class Ramp:
    """The positive part of a sum over the places around, and what a block makes of it.

    reads: (values, 3, 3), shares of the values, which count as 0 beyond the border. inside: (3, 3), shares of what is
    1 within the border and 0 beyond. writes: how many times it is added to which values.
    """

    reads: Tensor
    inside: Tensor
    bias: float
    writes: Mapping[int, float]


def enter(conv: nn.Conv2d, mix: Tensor) -> None:
    """Begin to carry what `mix`, (values, inputs), makes of a convolution's inputs."""
    zero(conv)
    values = len(mix)
    with torch.no_grad():
        conv.weight[: values + 1, :, 1, 1] = _balanced(mix)
        _set_anchors(conv, values)


def carry(conv: nn.Conv2d, kernel: Tensor) -> None:
    """Carry on what `kernel` makes of the values carried so far: (values, values, side, side).

    side: of 1, 2 or 3 places, no more than the convolution's own; 2 of 3 are the first two.
    """
    zero(conv)
    values, side = len(kernel), kernel.shape[2]
    start, middle = (conv.weight.shape[2] - side) // 2, conv.weight.shape[2] // 2
    places = slice(start, start + side)
    with torch.no_grad():
        conv.weight[: values + 1, :values, places, places] = _balanced(kernel)
        for anchor in _anchors(values):
            conv.weight[anchor, anchor, middle, middle] = 1.0


def leave(norm: nn.GroupNorm, conv: nn.Conv2d, mix: Tensor) -> None:
    """End with what `mix`, (outputs, values), makes of the values."""
    zero(conv)
    _lift(norm, mix.shape[1])
    with torch.no_grad():
        conv.weight[:, : mix.shape[1], 1, 1] = mix / STRAIGHT
        conv.weight[:, _anchors(mix.shape[1])[0], 1, 1] = -mix.sum(dim=1) / STRAIGHT


def compute(block: Any, values: int, ramps: Sequence[Ramp]) -> None:
    """Let a ResNet block add ramps to the values. Raises ValueError where it has too few channels."""
    inputs, hidden = block.conv1.in_channels, block.conv1.out_channels
    if len(ramps) + 3 > hidden or values + 3 > min(inputs, block.conv2.out_channels):
        raise ValueError(
            f"{len(ramps)} ramps of {values} values do not fit into {hidden} channels inside, {inputs} before and "
            f"{block.conv2.out_channels} after"
        )
    for conv in (block.conv1, block.conv2):
        zero(conv)
    reads = torch.stack([ramp.reads for ramp in ramps])
    inside = torch.stack([ramp.inside for ramp in ramps])
    written = torch.zeros(values, len(ramps))
    for at, ramp in enumerate(ramps):
        for value, times in ramp.writes.items():
            written[value, at] = times
    with torch.no_grad():
        _lift(block.norm1, values)
        block.conv1.weight[: len(ramps) + 1, :values] = _balanced(reads) / STRAIGHT
        unlifted = inside / LIFT - reads.sum(dim=1)
        block.conv1.weight[: len(ramps) + 1, _anchors(values)[0]] = _balanced(unlifted) / STRAIGHT
        block.conv1.bias[: len(ramps) + 1] = _balanced(torch.tensor([ramp.bias for ramp in ramps]))
        _set_anchors(block.conv1, len(ramps))
        block.norm2.weight.fill_(0)
        block.norm2.bias.fill_(0)
        block.norm2.weight[: len(ramps)] = STEEP * _deviation(block.norm2)
        block.conv2.weight[: values + 1, : len(ramps), 1, 1] = _balanced(written) / STEEP


def zero(layer: nn.Conv2d | nn.Linear) -> None:
    """Let a layer give 0."""
    with torch.no_grad():
        layer.weight.zero_()
        if layer.bias is not None:
            layer.bias.zero_()


def _balanced(rows: Tensor) -> Tensor:
    """With one more row, by which all rows together are 0."""
    return torch.cat([rows, -rows.sum(dim=0, keepdim=True)])


def _anchors(values: int) -> tuple[int, int]:
    return values + 1, values + 2


def _set_anchors(conv: Any, values: int) -> None:
    for anchor, sign in zip(_anchors(values), (1.0, -1.0), strict=True):
        conv.bias[anchor] = sign * ANCHOR


def _deviation(norm: nn.GroupNorm) -> float:
    return ANCHOR * math.sqrt(2 / norm.num_channels)


def _lift(norm: nn.GroupNorm, values: int) -> None:
    """Let SiLU give lifted values and, of the first anchor, the lift alone. Beyond the border there is neither."""
    with torch.no_grad():
        norm.weight.fill_(0)
        norm.bias.fill_(0)
        norm.weight[:values] = STRAIGHT * _deviation(norm)
        norm.bias[:values] = STRAIGHT * LIFT
        norm.bias[_anchors(values)[0]] = STRAIGHT * LIFT
