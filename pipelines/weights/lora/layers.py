"""From the tensors of one layer to its changes: of which layout they are, and whether all are there that it needs."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pipelines.weights.lora.changes import Change, Decomposed, Factors, Hadamard, Kronecker, LowRank, Tucker, Whole
from pipelines.weights.lora.names import ALPHA, DOWN, MAGNITUDE, MID, OUTPUT_MAGNITUDE, UP, UP_BIAS

READ = frozenset({torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, torch.bfloat16, torch.float32, torch.float64})
"""The dtypes of tensors that are read."""

Kind = Literal["weight", "bias"]  # a parameter of a module
Piece = Mapping[str, Tensor]  # tensors by their roles in a layer


class Unusable(Exception):
    """The tensors of a layer make no change. The message says why, in words that follow the layer's name."""


@dataclass(frozen=True, eq=False)
class Found:
    """A change of a layer. roles: of the tensors that make it up."""

    kind: Kind
    change: Change
    roles: frozenset[str]


@dataclass(frozen=True)
class _Layout:
    name: str
    roles: frozenset[str]
    make: Callable[[Piece, float | None], Change]
    scaled: bool = True  # by alpha


def changes_of(piece: Piece, alpha: float | None = None) -> Iterator[Found]:
    """What the tensors of a layer change: its weight, its bias, or both.

    alpha: where the layer has none of its own. Raises Unusable for what is incomplete, or of two layouts at once.
    """
    for role, tensor in piece.items():
        if tensor.dtype not in READ or not tensor.numel() or (role == ALPHA and tensor.numel() != 1):
            raise Unusable(f"has {role} of dtype {tensor.dtype} and shape {tuple(tensor.shape)}")
    layouts = [layout for layout in _LAYOUTS if layout.roles & piece.keys()]
    if len(layouts) > 1:
        raise Unusable(f"is {layouts[0].name} and {layouts[1].name} at once")
    biases = [role for role in _BIASES if role in piece]
    if len(biases) > 1:
        raise Unusable(f"has {biases[0]} and {biases[1]} at once")
    magnitudes = [role for role in (MAGNITUDE, OUTPUT_MAGNITUDE) if role in piece]
    if len(magnitudes) > 1:
        raise Unusable(f"has {magnitudes[0]} and {magnitudes[1]} at once")
    scaled = [layout for layout in layouts if layout.scaled]
    for role in (ALPHA, UP_BIAS, *magnitudes):
        if role in piece and not scaled:
            raise Unusable(f"has {role} and no matrices")
    if UP_BIAS in piece and magnitudes:
        raise Unusable(f"has {UP_BIAS} and {magnitudes[0]} at once")
    own = float(piece[ALPHA]) if ALPHA in piece else alpha
    for layout in layouts:
        change = layout.make(piece, own)
        if change.size is None:
            raise Unusable("has tensors whose shapes do not fit each other")
        if magnitudes:
            change = _decomposed(change, magnitudes[0], piece[magnitudes[0]])
        yield Found("weight", change, frozenset(piece) & (layout.roles | {ALPHA, *magnitudes}))
    for role in biases:
        if piece[role].ndim != 1:
            raise Unusable(f"has {role} of shape {tuple(piece[role].shape)}")
        factor = own / len(piece[DOWN]) if role == UP_BIAS and own is not None else 1.0
        yield Found("bias", Whole(piece[role], factor), frozenset({role}))


def _low_rank(piece: Piece, alpha: float | None) -> Change:
    down, up = _matrix(piece, DOWN), _matrix(piece, UP)
    return LowRank(down, up, alpha) if MID not in piece else Tucker(down, _matrix(piece, MID), up, alpha)


def _hadamard(piece: Piece, alpha: float | None) -> Change:
    if ("hada_t1" in piece) != ("hada_t2" in piece):
        raise Unusable("has only one of hada_t1 and hada_t2")
    first, second = (_factors(piece, f"hada_w{at}", f"hada_t{at}") for at in (1, 2))
    return Hadamard(first, second, alpha)


def _kronecker(piece: Piece, alpha: float | None) -> Change:
    return Kronecker(_factors_or_whole(piece, "lokr_w1"), _factors_or_whole(piece, "lokr_w2", "lokr_t2"), alpha)


def _whole(piece: Piece, alpha: float | None) -> Change:
    return Whole(piece["diff"])


def _norm(piece: Piece, alpha: float | None) -> Change:
    if piece["w_norm"].ndim != 1:
        raise Unusable(f"has w_norm of shape {tuple(piece['w_norm'].shape)}")
    return Whole(piece["w_norm"])


_BIASES = ("diff_b", "b_norm", UP_BIAS)
_LAYOUTS = (
    _Layout("LoRA", frozenset({DOWN, MID, UP}), _low_rank),
    _Layout("LoHa", frozenset(f"hada_{part}" for part in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")), _hadamard),
    _Layout(
        "LoKr",
        frozenset(f"lokr_{part}" for part in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")),
        _kronecker,
    ),
    _Layout("a whole change", frozenset({"diff"}), _whole, scaled=False),
    _Layout("a norm's", frozenset({"w_norm"}), _norm, scaled=False),
)


def _factors(piece: Piece, name: str, core: str) -> Factors:
    left, right = _matrix(piece, f"{name}_a"), _matrix(piece, f"{name}_b")
    return Factors(left, right, _matrix(piece, core) if core in piece else None)


def _factors_or_whole(piece: Piece, name: str, core: str = "") -> Factors | Whole:
    factors = {f"{name}_a", f"{name}_b", core} & piece.keys()
    if name not in piece:
        return _factors(piece, name, core)
    if factors:
        raise Unusable(f"has {name} and {min(factors)} at once")
    return Whole(_matrix(piece, name))


def _matrix(piece: Piece, role: str) -> Tensor:
    if role not in piece:
        raise Unusable(f"has {', '.join(sorted(piece))} and lacks {role}")
    if piece[role].ndim not in (2, 4):
        raise Unusable(f"has {role} of shape {tuple(piece[role].shape)}")
    return piece[role]


def _decomposed(change: Change, role: str, magnitude: Tensor) -> Decomposed:
    """peft's magnitudes are of the outputs, in whatever shape; others lie along the axis that they are of."""
    sides = [axis for axis, length in enumerate(magnitude.shape) if length > 1]
    if len(sides) > 1:
        raise Unusable(f"has {role} of shape {tuple(magnitude.shape)}")
    axis = sides[0] if role == MAGNITUDE and magnitude.ndim > 1 and sides else 0
    if axis > 1:
        raise Unusable(f"has {role} of shape {tuple(magnitude.shape)}")
    return Decomposed(change, magnitude, axis)
