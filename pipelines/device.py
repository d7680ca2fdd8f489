"""A device: how this process computes on it, and the way to it and back, plainly or so that the host never waits."""

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


def set_arithmetic(threads: int | None = None) -> None:
    """How this process multiplies matrices and attends, on a CPU and on CUDA devices; whoever draws calls it first.

    float32 is float32: text encoders, samplers and sharpening are held to Fooocus' numbers to 1e-5, and TF32, which
    torch takes for convolutions by itself, has 10 bits. Sums of half precision are not cut short. Attention takes the
    flash or the memory-efficient kernel by shape; cuDNN's plans one for each shape, and rows come and go with each
    step. threads: torch's on the CPU; None leaves torch's choice.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cuda.enable_cudnn_sdp(False)


def lacks(name: str) -> str | None:
    """Why torch cannot compute on a device here; None where it can. Takes none of the device's memory."""
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count and torch.version.cuda is None:
            return "the installed torch is built without CUDA"
        if (device.index or 0) >= count:
            return "torch finds no GPU on this machine" if not count else f"torch finds {count} GPUs, from cuda:0 on"
    if device.type == "mps" and not torch.backends.mps.is_available():
        return "torch finds no GPU of Apple's on this machine"
    return None
