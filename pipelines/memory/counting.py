"""Counting the memory of tensors while code runs, on any device: on `meta` too, where none is used."""

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it without types
    """Inside, counts what tensors hold that are made there; not what was there before, parameters above all.

    most: the largest sum so far.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = self._now = 0
        self._known: set[int] = set()  # storages

    def __torch_dispatch__(
        self,
        operation: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self._known.update(storage._cdata for storage in _storages((args, kwargs)))
        answer = operation(*args, **(kwargs or {}))
        for storage in _storages(answer):
            if storage._cdata not in self._known:
                self._known.add(storage._cdata)
                self._now += storage.nbytes()
                weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        self.most = max(self.most, self._now)
        return answer

    def _gone(self, storage: int, size: int) -> None:
        self._known.discard(storage)
        self._now -= size


class _FusedAttention(TorchFunctionMode):
    """On `meta` torch takes an attention apart; on devices its scores are never stored."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is not scaled_dot_product_attention:
            return function(*args, **(kwargs or {}))
        query, _, value, *_ = *args, *(kwargs or {}).values()
        return query.new_empty(*query.shape[:-1], value.shape[-1])


@contextmanager
def counted_on_meta() -> Iterator[LiveBytes]:
    """Inside, code on `meta` is counted as a device would need it."""
    with _FusedAttention(), LiveBytes() as count:
        yield count


def _storages(tree: Any) -> Iterator[Any]:
    return (each.untyped_storage() for each in tree_leaves(tree) if isinstance(each, Tensor))
