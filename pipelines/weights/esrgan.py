"""The 4x upscaler: ESRGAN's network of residual dense blocks (Wang et al. 2018), in its first key layout."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pipelines.errors import WeightsFault

SLOPE = 0.2  # of the leaky rectifiers
SHARE = 0.2  # of a block's answer that is added to its input
DENSE = 5  # convolutions of a dense block
FIRST = "model.1.sub.0.RDB1.conv1.0.weight"
_BLOCK = re.compile(r"model\.1\.sub\.(\d+)\.RDB1\.conv1\.0\.weight")


class Upscaler(nn.Module):
    """Pictures of 0..1, (n, 3, height, width), to 4 x their sides; the answer may leave that range a little.

    width: channels between blocks. growth: channels that each convolution of a dense block adds. blocks: their number.
    """

    def __init__(self, width: int, growth: int, blocks: int) -> None:
        super().__init__()
        self.model = nn.Sequential(
            _conv(3, width),
            _Shortcut(nn.Sequential(*(_Residual(width, growth) for _ in range(blocks)), _conv(width, width))),
            nn.Upsample(scale_factor=2),
            _conv(width, width),
            nn.LeakyReLU(SLOPE),
            nn.Upsample(scale_factor=2),
            _conv(width, width),
            nn.LeakyReLU(SLOPE),
            _conv(width, width),
            nn.LeakyReLU(SLOPE),
            _conv(width, 3),
        )

    def forward(self, pictures: Tensor) -> Tensor:
        answer: Tensor = self.model(pictures)
        return answer


def read_upscaler(path: Path) -> Upscaler:
    """The upscaler in a safetensors file, in fp32 on the CPU. Its sizes are those of the tensors.

    Raises WeightsFault when the file cannot be read or is of another architecture.
    """
    try:
        tensors = {name.replace("residual_block_", "RDB"): tensor.float() for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as fault:
        raise WeightsFault(f"The upscaler {path} cannot be read: {fault}") from fault
    width, growth, blocks = _sizes(tensors, path)
    with torch.device("meta"):
        network = Upscaler(width, growth, blocks)
    try:
        network.load_state_dict(tensors, assign=True)
    except RuntimeError as fault:
        raise WeightsFault(f"The upscaler {path} is of another architecture: {fault}") from fault
    return network.eval().requires_grad_(False)


def _sizes(tensors: Mapping[str, Tensor], path: Path) -> tuple[int, int, int]:
    blocks = [int(found[1]) for name in tensors if (found := _BLOCK.fullmatch(name))]
    if not blocks:
        raise WeightsFault(f"The upscaler {path} is of another architecture: it lacks {FIRST}.")
    growth, width = tensors[FIRST].shape[:2]
    return width, growth, max(blocks) + 1


class _Shortcut(nn.Module):
    def __init__(self, sub: nn.Module) -> None:
        super().__init__()
        self.sub = sub

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = x + self.sub(x)
        return answer


class _Residual(nn.Module):
    """Three dense blocks."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.RDB1, self.RDB2, self.RDB3 = (_Dense(width, growth) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = x + SHARE * self.RDB3(self.RDB2(self.RDB1(x)))
        return answer


class _Dense(nn.Module):
    """Convolutions of which each sees what all before it said."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        for at in range(DENSE - 1):
            conv = nn.Sequential(_conv(width + at * growth, growth), nn.LeakyReLU(SLOPE))
            self.add_module(f"conv{at + 1}", conv)
        self.add_module(f"conv{DENSE}", nn.Sequential(_conv(width + (DENSE - 1) * growth, width)))

    def forward(self, x: Tensor) -> Tensor:
        said = [x]
        for conv in self.children():
            said.append(conv(torch.cat(said, dim=1)))
        return x + SHARE * said[-1]


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
