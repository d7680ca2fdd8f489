"""Residency: where the weights of models lie, and how those of one that is about to run get to the device."""

import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from pipelines.errors import DrawingFault
from pipelines.memory.plan import MemoryPlan


@dataclass(frozen=True, slots=True)
class Traffic:
    """What was copied to the device since the start. parts: how often a model had to be brought, whole or in part."""

    parts: int = 0
    bytes: int = 0


class Residency(Protocol):
    """Where weights lie.

    Whoever runs a model on the device calls `bring` on the engine's thread right before, with the smallest module that
    holds all that runs: a text encoder, the VAE, the hint embedding of a control network, a control network, the UNet;
    and likewise any other model of a family, such as a vision tower or an upscaler. Two models that run one after the
    other are brought one after the other. What only reads weights, on any thread, reads `home`.
    """

    def bring(self, *modules: nn.Module) -> None:
        """Have every parameter and buffer of modules that run together on the device, until the next call of this.

        Raises DrawingFault for what does not fit by itself.
        """

    def home(self, tensor: Tensor) -> Tensor:
        """What a parameter or buffer holds, where it lies always. It may be read by any thread, and never changed."""

    def traffic(self) -> Traffic:
        """May be asked by any thread."""


class AllResident:
    """Everything lies on the device from the start; so nothing is to be done."""

    def bring(self, *modules: nn.Module) -> None:
        pass

    def home(self, tensor: Tensor) -> Tensor:
        return tensor

    def traffic(self) -> Traffic:
        return Traffic()


RESIDENT = AllResident()


@dataclass(frozen=True, eq=False, slots=True)
class _Copy:
    """A tensor that is on the device now, and what it is when it is not. A released model is not held by it."""

    tensor: "weakref.ref[Tensor]"
    home: Tensor


class OnDemand:
    """The home of all weights is the host's memory. `bring` copies what a module lacks to the device, for which those
    tensors leave that were used longest ago, as few as make room.

    Weights never change, so the host's copy stays, and to leave is to drop the device's. That is safe while calls are
    still queued: `bring` is called by one thread, on one stream, in whose order the memory is used anew. Models share
    tensors, which are known by identity and counted once. budget_bytes: of all that is on the device at a time.
    """

    def __init__(self, device: torch.device, budget_bytes: int) -> None:
        self._device, self._budget_bytes = device, budget_bytes
        self._there: OrderedDict[int, _Copy] = OrderedDict()  # by identity, the one used last at the end
        self._released: deque[int] = deque()
        self._of: WeakKeyDictionary[nn.Module, Sequence[Tensor]] = WeakKeyDictionary()  # a walk takes milliseconds
        self._traffic = Traffic()
        self._lock = threading.Lock()  # of all the above but `_released`

    @property
    def held_bytes(self) -> int:
        """What is on the device."""
        with self._lock:
            return self._held()

    def bring(self, *modules: nn.Module) -> None:
        with self._lock:
            wanted = self._tensors_of(modules)
            self._forget_released()
            missing = [tensor for tensor in wanted if id(tensor) not in self._there]
            if not missing:
                self._note_use(wanted)
                return
            size = sum(tensor.nbytes for tensor in wanted)
            if size > self._budget_bytes:
                name = " with ".join(type(module).__name__ for module in modules)
                raise DrawingFault(
                    f"{name} has {size / 2**20:,.1f} MiB of weights, and the memory plan leaves "
                    f"{self._budget_bytes / 2**20:,.1f} MiB for models on the device"
                )
            self._note_use(wanted)
            needed = sum(tensor.nbytes for tensor in missing)
            self._make_room(needed)
            with torch.inference_mode(False):
                for tensor in missing:
                    self._copy(tensor)
            self._traffic = Traffic(self._traffic.parts + 1, self._traffic.bytes + needed)

    def home(self, tensor: Tensor) -> Tensor:
        with self._lock:
            self._forget_released()
            copy = self._there.get(id(tensor))
            return tensor.data if copy is None else copy.home

    def traffic(self) -> Traffic:
        return self._traffic

    def _tensors_of(self, modules: Sequence[nn.Module]) -> Sequence[Tensor]:
        if len(modules) == 1:
            return self._tensors(modules[0])
        return [*{id(tensor): tensor for module in modules for tensor in self._tensors(module)}.values()]

    def _tensors(self, module: nn.Module) -> Sequence[Tensor]:
        known = self._of.get(module)
        if known is None:
            every = (*module.parameters(), *module.buffers())
            known = self._of[module] = tuple({id(tensor): tensor for tensor in every}.values())
        return known

    def _held(self) -> int:
        self._forget_released()
        return sum(copy.home.nbytes for copy in self._there.values())

    def _note_use(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            if id(tensor) in self._there:
                self._there.move_to_end(id(tensor))

    def _make_room(self, needed: int) -> None:
        """What the module that is brought has there already was used last, and fits with what it lacks: it stays."""
        room = self._budget_bytes - self._held()
        while room < needed:
            _, copy = self._there.popitem(last=False)
            room += copy.home.nbytes
            tensor = copy.tensor()
            if tensor is not None:
                tensor.data = copy.home

    def _copy(self, tensor: Tensor) -> None:
        home = tensor.data
        there = home.to(self._device, copy=True)  # with the strides of its memory format
        name = id(tensor)
        self._there[name] = _Copy(weakref.ref(tensor, partial(self._note_release, name)), home)
        tensor.data = there

    def _note_release(self, name: int, _: object) -> None:
        """Let a tensor's home go with it. This runs wherever the last reference is dropped: in the midst of the above,
        or while another thread is there, which then sees to it with its next use."""
        self._released.append(name)
        if self._lock.acquire(blocking=False):
            try:
                self._forget_released()
            finally:
                self._lock.release()

    def _forget_released(self) -> None:
        while self._released:
            name = self._released.popleft()
            copy = self._there.get(name)  # by now another tensor may have the identity
            if copy is not None and copy.tensor() is None:
                del self._there[name]


def residency_of(plan: MemoryPlan | None, device: torch.device) -> Residency:
    """How a plan is obeyed. None: everything stays on the device."""
    return RESIDENT if plan is None or plan.resident else OnDemand(device, plan.parts)
