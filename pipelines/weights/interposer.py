"""The interposer: a network from SDXL's latents to those of Stable Diffusion 1.5 (fooocus-facts 9.3)."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import relu

from pipelines.errors import WeightsFault

CHANNELS, WIDTH, BLOCKS = 4, 64, 12
SHORT, OTHER_SHORT = "head.short.", "head.short.0."  # of its first block, in files that put a dropout behind it


class Interposer(nn.Module):
    """Latents as the VAEs have them, without their scaling factors: (n, 4, h, w) of SDXL to (n, 4, h, w) of Stable
    Diffusion 1.5. What its training drops out is left in, so it is without dropout here."""

    def __init__(self) -> None:
        super().__init__()
        self.head = _First()
        # where the published network may change the size of a latent, this one has nothing to do
        blocks = (_Residual() for _ in range(BLOCKS))
        self.core = nn.Sequential(nn.Identity(), *blocks, nn.BatchNorm2d(WIDTH), nn.SiLU())
        self.tail = _conv(WIDTH, CHANNELS)

    def forward(self, latents: Tensor) -> Tensor:
        answer: Tensor = self.tail(self.core(self.head(latents)))
        return answer


def read_interposer(path: Path, device: torch.device) -> Interposer:
    """The interposer in a safetensors file, in evaluation mode, in float32. Raises WeightsFault when the file cannot
    be read or is of another architecture."""
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as fault:
        raise WeightsFault(f"The interposer {path} cannot be read: {fault}") from fault
    tensors = {
        name.replace(OTHER_SHORT, SHORT): each.to(device, torch.float32 if each.is_floating_point() else each.dtype)
        for name, each in stored.items()
    }
    with torch.device("meta"):
        network = Interposer()
    try:
        network.load_state_dict(tensors, assign=True)
    except RuntimeError as fault:
        told = " ".join(str(fault).split())
        raise WeightsFault(f"{path.name} is not an interposer of SDXL to Stable Diffusion 1.5: {told}") from fault
    return network.eval().requires_grad_(False)


class _First(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.short, self.long = _conv(CHANNELS, WIDTH), _long(CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.long(x) + self.short(x))


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.long = nn.BatchNorm2d(WIDTH), _long(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return relu(self.long(x) + x)


def _long(channels: int) -> nn.Sequential:
    first, *others = _conv(channels, WIDTH), _conv(WIDTH, WIDTH), _conv(WIDTH, WIDTH)
    return nn.Sequential(first, *(each for other in others for each in (nn.SiLU(), other)))


def _conv(channels: int, wanted: int) -> nn.Conv2d:
    return nn.Conv2d(channels, wanted, 3, padding=1)
