"""The way to the device and back: plainly, or so that the host never waits on the way."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

Download = Callable[[], Tensor]
"""Gives what was asked for in host memory, and waits for it where it has to."""


class Device(Protocol):
    """How tensors get to the device and back."""

    device: torch.device

    def upload(self, tensor: Tensor) -> Tensor:
        """A tensor of the host's memory on the device."""

    def download(self, tensor: Tensor) -> Download:
        """Begin to copy a tensor to the host's memory."""


class PlainDevice:
    """Every copy is over when its call returns."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def upload(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device)

    def download(self, tensor: Tensor) -> Download:
        copy = tensor.cpu()
        return lambda: copy


class PinnedDevice:
    """A CUDA device whose copies go through pinned memory in the order of the stream, beside the host."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def upload(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def download(self, tensor: Tensor) -> Download:
        copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        copy.copy_(tensor, non_blocking=True)
        there = torch.cuda.current_stream(self.device).record_event()

        def wait() -> Tensor:
            there.synchronize()
            return copy

        return wait
