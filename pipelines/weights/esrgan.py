"""The 4x upscaler: ESRGAN's network of residual dense blocks (Wang et al. 2018), in its first key layout."""

import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pipelines.errors import WeightsFault
from pipelines.weights.header import read_header

SLOPE = 0.2  # of the leaky rectifiers
SHARE = 0.2  # of a block's answer that is added to its input
DENSE = 5  # convolutions of a dense block
OTHER_NAME = ("residual_block_", "RDB")  # of a dense block, and the one that is used here
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
    stored = {name.replace(*OTHER_NAME): each.shape for name, each in read_header(path).tensors.items()}
    with torch.device("meta"):
        network = Upscaler(*_sizes(stored, path))
    wanted = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    _hold(stored, wanted, path)
    try:
        tensors = {name.replace(*OTHER_NAME): tensor.float() for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as fault:
        raise WeightsFault(f"The upscaler {path} cannot be read: {fault}") from fault
    network.load_state_dict(tensors, assign=True)
    return network.eval().requires_grad_(False)


def upscaler_dtype(device: torch.device) -> torch.dtype:
    """What an upscaler is run in on a device: float32 on a CPU, and elsewhere float16, as it is published."""
    return torch.float32 if device.type == "cpu" else torch.float16


class LazyUpscaler:
    """The upscaler of a family, which is read when it is first asked for. For any thread."""

    def __init__(self, find: Callable[[], Path], home: torch.device, dtype: torch.dtype) -> None:
        """find: its file; called when it is read. home: where it then lies."""
        self._find, self._home, self._dtype = find, home, dtype
        self._reading = threading.Lock()
        self._network: Upscaler | None = None

    def get(self) -> Upscaler:
        """The network. Raises WeightsFault where there is none."""
        with self._reading:
            if self._network is None:
                self._network = read_upscaler(self._find()).to(self._home, self._dtype)
            return self._network


def _hold(stored: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], path: Path) -> None:
    for name in sorted(wanted.keys() | stored.keys()):
        if name not in stored:
            told = f"it lacks {name}"
        elif name not in wanted:
            told = f"it has {name}"
        elif stored[name] != wanted[name]:
            told = f"{name} has shape {stored[name]} instead of {wanted[name]}"
        else:
            continue
        raise WeightsFault(f"The upscaler {path} is of another architecture: {told}.")


def _sizes(shapes: Mapping[str, tuple[int, ...]], path: Path) -> tuple[int, int, int]:
    blocks = [found[1] for name in shapes if (found := _BLOCK.fullmatch(name))]
    if not blocks or len(shapes.get(FIRST, ())) != 4:
        raise WeightsFault(f"The upscaler {path} is of another architecture: it lacks {FIRST}.")
    growth, width = shapes[FIRST][:2]
    return width, growth, len(blocks)


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
