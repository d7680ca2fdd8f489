"""Counts what torch is asked to do on one thread: kernels, waits and copies, with torch's `meta` device as the device.

A tensor on `meta` has a shape and no values, so a whole loop runs on it anywhere, and what would wait for a GPU cannot
hide: no value can be read. What is counted, of operations as they reach a backend (composite ones are taken apart):

- kernel: an operation with a device tensor, unless it only makes a view or memory without content. A fused operation is
  one, and so is a copy between dtypes.
- host operation: the same where all tensors are on the CPU.
- read: a value or a tensor that comes from the device. An upload: one that goes there (`torch.tensor(list, device=)`, a
  copy of a CPU tensor). Either is a wait where it blocks, that is, without `non_blocking=True`.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DEVICE = "meta"
KERNEL, HOST, READ, UPLOAD = "kernel", "host operation", "blocking read", "blocking upload"
LATER, STAGED = "read that does not block", "upload that does not block"
WAITS = (READ, UPLOAD)
KINDS = (KERNEL, HOST, READ, UPLOAD, LATER, STAGED)

# they make no view by their schema, and no work
_WITHOUT_WORK = frozenset(
    {"detach_", "_unsafe_view", "lift_fresh", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
    | {"resize_", "set_", "is_pinned", "sym_size", "sym_numel", "sym_stride", "sym_storage_offset", "is_same_size"}
)
_MAKERS: tuple[Any, ...] = (torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor)  # from Python's values

Asked = tuple[str, str]
"""A kind, and FILE FUNCTION of the innermost code of ours that asked."""


class Waited(BaseException):
    """Something would have waited for the device. No code that is counted takes it for a fault of its own."""


class Counts:
    """What one thread asks for while `counting()` holds on it.

    of: the folder of the code whose places are told. forbidding: raise Waited at what is a wait; set it at any time.
    Otherwise a read is answered with ones.
    """

    def __init__(self, of: Path) -> None:
        self._of = f"{of}/"
        self._paused = False
        self.forbidding = False
        self.waited = ""  # the first wait that was forbidden
        self.seen: Counter[Asked] = Counter()

    @contextmanager
    def counting(self) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(_Functions(self))
            stack.enter_context(_Operations(self))
            yield

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is asked for meanwhile does not count."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def take(self) -> Counter[Asked]:
        """What was counted since the last time, by kind and place."""
        taken, self.seen = self.seen, Counter()
        return taken

    def note(self, kind: str) -> None:
        if self._paused:
            return
        place = self._place()
        self.seen[kind, place] += 1
        if self.forbidding and kind in WAITS:
            self.waited = self.waited or f"{kind}: {place}"
            raise Waited(self.waited)

    def has(self, things: Any) -> bool:
        """Whether a tensor among them is on the device."""
        return any(isinstance(leaf, Tensor) and leaf.device.type == DEVICE for leaf in tree_leaves(things))

    def _place(self) -> str:
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and not frame.f_code.co_filename.startswith(self._of):
            frame = frame.f_back
        if frame is None:
            return "elsewhere"
        return f"{frame.f_code.co_filename.removeprefix(self._of)} {frame.f_code.co_name}"


class _Functions(TorchFunctionMode):
    """Sees tensors made of Python's values, which no backend sees where the device has no memory."""

    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self._counts = counts

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        made = func(*args, **given)
        if func in _MAKERS and self._counts.has(made):
            self._counts.note(UPLOAD)
        return made


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it without types
    """Sees every operation that reaches a backend."""

    def __init__(self, counts: Counts) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._counts = counts

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        with self:
            parts = func.decompose(*args, **given)
        if parts is not NotImplemented:
            return parts
        name = func.name().removeprefix("aten::").partition(".")[0]
        if func.is_view or name in _WITHOUT_WORK:
            return func(*args, **given)
        if name in ("_to_copy", "copy_"):
            return self._copied(name, func, args, given)
        if name in _VALUES and self._counts.has(args):
            self._counts.note(READ)
            return _VALUES[name](args[0])
        answer = func(*args, **given)
        self._counts.note(KERNEL if self._counts.has((args, given, answer)) else HOST)
        return answer

    def _copied(self, name: str, func: Any, args: Sequence[Any], given: dict[str, Any]) -> Any:
        source = args[0] if name == "_to_copy" else args[1]
        waits = not (given.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2]))
        target = given.get("device") or args[0].device
        leaves, arrives = self._counts.has(source), torch.device(target).type == DEVICE
        if not leaves or arrives:
            answer = func(*args, **given)
            if leaves == arrives:
                self._counts.note(KERNEL if leaves else HOST)
            else:
                self._counts.note(UPLOAD if waits else STAGED)
            return answer
        self._counts.note(READ if waits else LATER)
        if name == "copy_":
            return args[0].fill_(1)
        return torch.ones(source.shape, dtype=given.get("dtype") or source.dtype)


def _one(tensor: Tensor) -> Any:
    return torch.ones((), dtype=tensor.dtype).item()


# what reads a value, and what it is told where there is none
_VALUES: Mapping[str, Callable[[Tensor], Any]] = MappingProxyType(
    {"_local_scalar_dense": _one, "equal": lambda _: True, "nonzero": lambda of: torch.zeros(0, of.ndim, device=DEVICE)}
)
