"""A naive writer of LoRA files in every layout, and the weights that their published formulas make, element by element.

It shares no code with what reads the files: loops over outputs, inputs and ranks, in Python's own floats.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
ALPHA = 3.0


@dataclass
class Random:
    """Small random tensors, repeatable."""

    seed: int = 0
    generator: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)

    def __call__(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator) / 2


@dataclass(frozen=True)
class Written:
    """The tensors of one layer by their names behind the layer's, and what they make of its weight and bias at scale 1.

    `weight` and `bias` are the changes; None: left as it is.
    """

    tensors: Tensors
    weight: Tensor | None = None
    bias: Tensor | None = None


Writer = Callable[[Tensor, Random], Written]


def each(shape: Sequence[int], element: Callable[..., float]) -> Tensor:
    """A tensor of which every element is computed alone."""
    made = [element(*at) for at in itertools.product(*map(range, shape))]
    return torch.tensor(made, dtype=torch.float64).reshape(tuple(shape))


def numbers(tensor: Tensor) -> Callable[..., float]:
    """Its elements by their places."""
    rows = tensor.double().tolist()

    def at(*place: int) -> float:
        found = rows
        for index in place:
            found = found[index]
        return float(found)

    return at


def kernel_of(weight: Tensor) -> tuple[int, ...]:
    return tuple(weight.shape[2:])


def lora(weight: Tensor, random: Random, rank: int = 2) -> Written:
    """W[o, i, k] += alpha/r * sum_r up[o, r] * down[r, i, k]"""
    ones = (1,) * (weight.ndim - 2)
    down, up = random(rank, *weight.shape[1:]), random(weight.shape[0], rank, *ones)
    d, u, none = numbers(down), numbers(up), (0,) * len(ones)

    def element(o: int, *rest: int) -> float:
        return ALPHA / rank * sum(u(o, r, *none) * d(r, *rest) for r in range(rank))

    tensors = {"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(ALPHA)}
    return Written(tensors, each(weight.shape, element))


def locon_tucker(weight: Tensor, random: Random, rank: int = 2) -> Written:
    """W[o, i, k] += alpha/r * sum_r,s mid[r, s, k] * up[o, r] * down[s, i]"""
    mid = random(rank, rank, *kernel_of(weight))
    down, up = random(rank, weight.shape[1], 1, 1), random(weight.shape[0], rank, 1, 1)
    m, d, u = numbers(mid), numbers(down), numbers(up)

    def element(o: int, i: int, *k: int) -> float:
        pairs = itertools.product(range(rank), repeat=2)
        return ALPHA / rank * sum(m(r, s, *k) * u(o, r, 0, 0) * d(s, i, 0, 0) for r, s in pairs)

    tensors = {"lora_down.weight": down, "lora_mid.weight": mid, "lora_up.weight": up, "alpha": torch.tensor(ALPHA)}
    return Written(tensors, each(weight.shape, element))


def loha(weight: Tensor, random: Random, rank: int = 2) -> Written:
    """W[o, j] += alpha/r * (w1_a @ w1_b)[o, j] * (w2_a @ w2_b)[o, j], j over inputs and kernel"""
    columns = math.prod(weight.shape[1:])
    sides = [(random(weight.shape[0], rank), random(rank, columns)) for _ in range(2)]
    (a1, b1), (a2, b2) = [(numbers(a), numbers(b)) for a, b in sides]

    def element(o: int, j: int) -> float:
        first = sum(a1(o, r) * b1(r, j) for r in range(rank))
        return ALPHA / rank * first * sum(a2(o, r) * b2(r, j) for r in range(rank))

    names = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    tensors = dict(zip(names, itertools.chain(*sides), strict=True))
    change = each((weight.shape[0], columns), element).reshape(weight.shape)
    return Written({**tensors, "alpha": torch.tensor(ALPHA)}, change)


def loha_tucker(weight: Tensor, random: Random, rank: int = 2) -> Written:
    """Each factor is sum_r,s t[r, s, k] * w_a[r, o] * w_b[s, i]."""
    outputs, inputs = weight.shape[:2]
    parts = [(random(rank, rank, *kernel_of(weight)), random(rank, outputs), random(rank, inputs)) for _ in range(2)]
    read = [tuple(map(numbers, part)) for part in parts]

    def element(o: int, i: int, *k: int) -> float:
        product = ALPHA / rank
        for t, a, b in read:
            pairs = itertools.product(range(rank), repeat=2)
            product *= sum(t(r, s, *k) * a(r, o) * b(s, i) for r, s in pairs)
        return product

    tensors = {
        f"hada_{name}": tensor
        for at, part in enumerate(parts, 1)
        for name, tensor in zip((f"t{at}", f"w{at}_a", f"w{at}_b"), part, strict=True)
    }
    return Written({**tensors, "alpha": torch.tensor(ALPHA)}, each(weight.shape, element))


def lokr(small: str, large: str) -> Writer:
    """W[o1*B + o2, i1*D + i2, k] += scale * w1[o1, i1] * w2[o2, i2, k], either whole or of two factors, w2 with a core.

    scale: alpha/r, and 1 where neither has a rank.
    """

    def write(weight: Tensor, random: Random, rank: int = 2) -> Written:
        outputs, inputs = weight.shape[:2]
        kernel = kernel_of(weight)
        a, c = 2, 4  # of the small one
        b, d = outputs // a, inputs // c
        tensors: Tensors = {}
        if small == "whole":
            w1 = tensors["lokr_w1"] = random(a, c)
        else:
            left, right = tensors["lokr_w1_a"], tensors["lokr_w1_b"] = random(a, rank), random(rank, c)
            w1 = left.double() @ right.double()
        if large == "whole":
            w2 = tensors["lokr_w2"] = random(b, d, *kernel)
        elif large == "factors":
            left, right = random(b, rank), random(rank, d * math.prod(kernel))
            tensors |= {"lokr_w2_a": left, "lokr_w2_b": right}
            w2 = (left.double() @ right.double()).reshape(b, d, *kernel)
        else:
            core, left, right = random(rank, rank, *kernel), random(rank, b), random(rank, d)
            tensors |= {"lokr_t2": core, "lokr_w2_a": left, "lokr_w2_b": right}
            t, x, y = numbers(core), numbers(left), numbers(right)
            w2 = each(
                (b, d, *kernel),
                lambda o, i, *k: sum(
                    t(r, s, *k) * x(r, o) * y(s, i) for r, s in itertools.product(range(rank), repeat=2)
                ),
            )
        scale = 1.0 if small == large == "whole" else ALPHA / rank
        first, second = numbers(w1), numbers(w2)

        def element(o: int, i: int, *k: int) -> float:
            return scale * first(o // b, i // d) * second(o % b, i % d, *k)

        return Written({**tensors, "alpha": torch.tensor(ALPHA)}, each(weight.shape, element))

    return write


def whole(weight: Tensor, random: Random) -> Written:
    """W += diff, b += diff_b"""
    diff, more = random(*weight.shape), random(weight.shape[0])
    return Written({"diff": diff, "diff_b": more}, diff, more)


def norm(weight: Tensor, random: Random) -> Written:
    """Of a norm: w += w_norm, b += b_norm"""
    scale, shift = random(len(weight)), random(len(weight))
    return Written({"w_norm": scale, "b_norm": shift}, scale, shift)


def with_bias(weight: Tensor, random: Random) -> Written:
    """peft's lora_bias: b += alpha/r * the bias of up"""
    written = lora(weight, random)
    more = random(weight.shape[0])
    return Written({**written.tensors, "lora_up.bias": more}, written.weight, ALPHA / 2 * more)


def dora(write: Writer, by: str) -> Writer:
    """W[o, i, k] = m * (W + change)[o, i, k] / ||W + change||, the norm and m for each `output` or each `input`."""

    def write_dora(weight: Tensor, random: Random) -> Written:
        inner = write(weight, random)
        assert inner.weight is not None
        turned = weight.double() + inner.weight
        axis = 0 if by.endswith("output") else 1
        count, value = weight.shape[axis], numbers(turned)
        squares = [0.0] * count
        for at in itertools.product(*map(range, weight.shape)):
            squares[at[axis]] += value(*at) ** 2
        lengths = random(count).abs() + 1
        m = numbers(lengths)
        new = each(weight.shape, lambda *at: m(at[axis]) * value(*at) / math.sqrt(squares[at[axis]]))
        if by == "peft's output":  # of a convolution it stands at the place of the inputs, as peft saves it
            shape = [count] if weight.ndim == 2 else [1, count, 1, 1]
            name = "lora_magnitude_vector"
        else:
            shape, name = [1] * weight.ndim, "dora_scale"
            shape[axis] = count
        return Written({**inner.tensors, name: lengths.reshape(shape)}, new - weight.double())

    return write_dora


LINEAR: dict[str, Writer] = {
    "LoRA": lora,
    "LoRA with a bias": with_bias,
    "LoHa": loha,
    "LoKr, both whole": lokr("whole", "whole"),
    "LoKr, factors of the large one": lokr("whole", "factors"),
    "LoKr, factors of the small one": lokr("factors", "whole"),
    "LoKr, factors of both": lokr("factors", "factors"),
    "whole": whole,
    "DoRA by output": dora(lora, "output"),
    "DoRA by input": dora(lora, "input"),
    "DoRA of peft": dora(lora, "peft's output"),
    "DoRA of LoHa": dora(loha, "input"),
    "DoRA of LoKr": dora(lokr("whole", "factors"), "output"),
}
CONVOLUTION: dict[str, Writer] = {
    "LoCon": lora,
    "LoCon with a core": locon_tucker,
    "LoHa": loha,
    "LoHa with cores": loha_tucker,
    "LoKr, both whole": lokr("whole", "whole"),
    "LoKr, factors of the large one": lokr("whole", "factors"),
    "LoKr with a core": lokr("whole", "core"),
    "LoKr, factors and a core": lokr("factors", "core"),
    "whole": whole,
    "DoRA by output": dora(lora, "output"),
    "DoRA by input": dora(lora, "input"),
    "DoRA of peft": dora(lora, "peft's output"),
    "DoRA with a core": dora(locon_tucker, "input"),
}
NORM: dict[str, Writer] = {"norm": norm}
