"""Counting copies from one device to another."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Copies(TorchDispatchMode):
    """While it is entered, `number` counts the tensors that are copied to another device."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        answer = func(*args, **(kwargs or {}))
        if isinstance(answer, Tensor):
            given = {each.device for each in (*args, *(kwargs or {}).values()) if isinstance(each, Tensor)}
            self.number += bool(given) and given != {answer.device}
        return answer
