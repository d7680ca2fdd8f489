"""What LoRAs change of a weight: the formula of each layout, and a weight with its changes merged in.

Only `LowRank` can also be run as a branch beside its layer; every other change is merged.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from math import prod
from typing import Any, TypeVar

import torch
from torch import Tensor

from pipelines.weights.lora.names import Place

Size = tuple[int, int]  # of a weight as a matrix: its first side, and all others together


class Change(ABC):
    """What a file says of one weight. Its parts lie where the file's tensors were put, in their dtypes."""

    @property
    @abstractmethod
    def size(self) -> Size | None:
        """Of the weight that it changes, as a matrix. None: its tensors do not fit each other."""

    @abstractmethod
    def delta(self, weight: Tensor) -> Tensor:
        """What is added to `weight` at scale 1, float32, in its shape and on its device; it must fit.

        weight: the checkpoint's own, without other changes.
        """

    def fits(self, weight: Tensor) -> bool:
        """Whether it has the shape of `weight`, that is, whether the file was made for such a model."""
        return self.size == size_of(weight)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that it holds."""
        return tuple(_tensors(self))


@dataclass(frozen=True, eq=False)
class LowRank(Change):
    """A product of two matrices: LoRA, and LoCon, whose `down` has the kernel of a convolution and whose `up` is 1x1.

    down: (rank, inputs, ...). up: (outputs, rank, ...). alpha: None means the rank.
    """

    down: Tensor
    up: Tensor
    alpha: float | None = None

    @property
    def size(self) -> Size | None:
        return _product_size(self.up, self.down)

    @property
    def factor(self) -> float:
        """alpha/rank."""
        return _scale(self.alpha, len(self.down))

    def delta(self, weight: Tensor) -> Tensor:
        """alpha/rank * up @ down."""
        # `up` of a convolution is 1x1; so the product's columns are input channel by kernel, as in the weight
        product = _matrix(self.up, weight) @ _matrix(self.down, weight)
        return product.reshape(weight.shape) * self.factor


@dataclass(frozen=True, eq=False)
class Tucker(Change):
    """A convolution between two 1x1 ones: LoCon with a core.

    down: (inner, inputs, 1, 1). mid: (outer, inner, kernel). up: (outputs, outer, 1, 1). alpha: None means the rank.
    """

    down: Tensor
    mid: Tensor
    up: Tensor
    alpha: float | None = None

    @property
    def size(self) -> Size | None:
        return _tucker_size(self.mid, _transposed(self.up), self.down)

    def delta(self, weight: Tensor) -> Tensor:
        """alpha/rank * sum over the ranks of mid x up x down."""
        core = _tucker(self.mid, _transposed(self.up), self.down, weight)
        return core.reshape(weight.shape) * _scale(self.alpha, len(self.down))


@dataclass(frozen=True, eq=False)
class Factors(Change):
    """A product of two matrices alone, or with a core between them: a part of the layouts below.

    left: (outputs, rank), with a core (rank, outputs). right: (rank, inputs by kernel), with a core (rank, inputs).
    core: (rank, rank, kernel), or None.
    """

    left: Tensor
    right: Tensor
    core: Tensor | None = None

    @property
    def size(self) -> Size | None:
        if self.core is not None:
            return _tucker_size(self.core, self.left, self.right)
        return _product_size(self.left, self.right)

    @property
    def rank(self) -> int:
        return len(self.right)

    def delta(self, weight: Tensor) -> Tensor:
        """The product as a matrix, on the device of `weight`, whose shape does not matter here."""
        if self.core is not None:
            return _tucker(self.core, self.left, self.right, weight).flatten(1)
        return _matrix(self.left, weight) @ _matrix(self.right, weight)


@dataclass(frozen=True, eq=False)
class Hadamard(Change):
    """LoHa: two products, multiplied element by element. alpha: None means the rank."""

    first: Factors
    second: Factors
    alpha: float | None = None

    @property
    def size(self) -> Size | None:
        return self.first.size if self.first.size == self.second.size else None

    def delta(self, weight: Tensor) -> Tensor:
        """alpha/rank * first * second."""
        product = self.first.delta(weight).mul_(self.second.delta(weight))
        return product.reshape(weight.shape) * _scale(self.alpha, self.first.rank)


@dataclass(frozen=True, eq=False)
class Whole(Change):
    """A change that is stored as it is: of a matrix, a bias or a norm. factor: what it is multiplied by."""

    diff: Tensor
    factor: float = 1.0

    @property
    def size(self) -> Size | None:
        return size_of(self.diff)

    def delta(self, weight: Tensor) -> Tensor:
        """factor * diff."""
        return self.diff.to(weight.device, torch.float32).reshape(weight.shape) * self.factor


@dataclass(frozen=True, eq=False)
class Kronecker(Change):
    """LoKr: the Kronecker product of a small matrix, and of a larger one with the kernel of a convolution.

    alpha: None means the rank; where both are stored whole there is no rank, and alpha counts for nothing.
    """

    small: Factors | Whole
    large: Factors | Whole
    alpha: float | None = None

    @property
    def size(self) -> Size | None:
        small, large = self.small.size, self.large.size
        return None if small is None or large is None else (small[0] * large[0], small[1] * large[1])

    def delta(self, weight: Tensor) -> Tensor:
        """alpha/rank * the product."""
        small, large = (
            part.delta(weight) if isinstance(part, Factors) else _matrix(part.diff, weight)
            for part in (self.small, self.large)
        )
        # an input channel of the product is one of the small matrix by one of the large: its kernel stays innermost
        ranks = [part.rank for part in (self.large, self.small) if isinstance(part, Factors)]
        return torch.kron(small, large).reshape(weight.shape) * (_scale(self.alpha, ranks[0]) if ranks else 1.0)


@dataclass(frozen=True, eq=False)
class Decomposed(Change):
    """DoRA: the changed weight gets lengths of its own along one axis.

    of: the change of directions. magnitude: the lengths, flat, one for each output (axis 0) or input channel (axis 1).
    """

    of: Change
    magnitude: Tensor
    axis: int

    @property
    def size(self) -> Size | None:
        return self.of.size

    def fits(self, weight: Tensor) -> bool:
        return weight.ndim > 1 and self.of.fits(weight) and self.magnitude.numel() == weight.shape[self.axis]

    def delta(self, weight: Tensor) -> Tensor:
        """magnitude * (weight + change) / ||weight + change|| - weight.

        The norm is that of the checkpoint's weight with this change alone, at scale 1, as it was trained. So it goes
        along a line from the checkpoint's weight to the trained one with the scale, as in ComfyUI and in LyCORIS'
        function, and several such files add up in any order.
        """
        own = weight.to(torch.float32)
        turned = self.of.delta(weight).add_(own)
        others = [axis for axis in range(weight.ndim) if axis != self.axis]
        norm = torch.linalg.vector_norm(turned, dim=others, keepdim=True).clamp_(min=torch.finfo(torch.float32).eps)
        return turned.mul_(self.magnitude.to(norm.device, torch.float32).reshape(norm.shape) / norm).sub_(own)


Layer = TypeVar("Layer", bound=Change)


def size_of(tensor: Tensor) -> Size:
    """The sides of a tensor as a matrix."""
    return (tensor.shape[0], prod(tensor.shape[1:])) if tensor.ndim else (1, 1)


def upload(layers: Mapping[Place, Layer], device: torch.device, *, pinned: bool = False) -> Mapping[Place, Layer]:
    """The same changes on a device, to which they go in one copy for each of their dtypes.

    pinned: through page-locked memory, so that the host does not wait for it; needs a CUDA device.
    """
    if device.type == "cpu":
        return layers
    parts = [part for layer in layers.values() for part in layer.tensors]
    there: dict[int, Tensor] = {}
    for dtype in {part.dtype for part in parts}:
        like = [part for part in parts if part.dtype is dtype]
        sizes = [part.numel() for part in like]
        flat = torch.cat([part.flatten() for part in like], out=torch.empty(sum(sizes), dtype=dtype, pin_memory=pinned))
        split = torch.split_with_sizes(flat.to(device, non_blocking=pinned), sizes)
        there |= {id(part): moved.view(part.shape) for part, moved in zip(like, split, strict=True)}
    return {place: _with(layer, there) for place, layer in layers.items()}


@torch.no_grad()
def merged(weight: Tensor, changes: Iterable[tuple[Change, float]], more: Tensor | None = None) -> Tensor:
    """`weight` + `more`, of its shape, + the sum of scale * delta: summed in float32, rounded once to the weight's
    dtype. weight: the checkpoint's own."""
    total = weight.detach().to(torch.float32, copy=True)
    if more is not None:
        total += more.to(total.device)
    for change, scale in changes:
        total += scale * change.delta(weight)
    return total.to(weight.dtype)


def _scale(alpha: float | None, rank: int) -> float:
    return 1.0 if alpha is None else alpha / rank


def _product_size(left: Tensor, right: Tensor) -> Size | None:
    outputs, rank = size_of(left)
    inner, inputs = size_of(right)
    return (outputs, inputs) if rank == inner else None


def _matrix(tensor: Tensor, like: Tensor) -> Tensor:
    return tensor.to(like.device, torch.float32).flatten(1)


def _transposed(tensor: Tensor) -> Tensor:
    return tensor.flatten(1).T


def _tucker_size(core: Tensor, left: Tensor, right: Tensor) -> Size | None:
    if core.ndim < 2 or core.shape[:2] != (left.shape[0], right.shape[0]):
        return None
    return size_of(left)[1], size_of(right)[1] * prod(core.shape[2:])


def _tucker(core: Tensor, left: Tensor, right: Tensor, like: Tensor) -> Tensor:
    """(outputs, inputs, kernel) of a core (outer, inner, kernel), left (outer, outputs) and right (inner, inputs)."""
    whole = core.to(like.device, torch.float32)
    return torch.einsum("ij...,ip,jr->pr...", whole, _matrix(left, like), _matrix(right, like))


def _tensors(change: Any) -> Iterator[Tensor]:
    for part in fields(change):
        value = getattr(change, part.name)
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Change):
            yield from _tensors(value)


def _with(change: Any, there: Mapping[int, Tensor]) -> Any:
    """The same change made of other tensors, by the identity of its own."""
    moved: dict[str, Any] = {}
    for part in fields(change):
        value = getattr(change, part.name)
        if isinstance(value, Tensor):
            moved[part.name] = there[id(value)]
        elif isinstance(value, Change):
            moved[part.name] = _with(value, there)
    return replace(change, **moved)
