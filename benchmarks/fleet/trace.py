"""What comes to a fleet: kinds of requests, and when which of them arrives."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.performance import LCM_LORA
from pipelines.row_steps import row_steps_of
from pipelines.spec import Guidance, Size, Spec, Upscale
from pipelines.wanted import rows_of, weights_of
from pipelines.weights.at_hand import Weights


@dataclass(frozen=True, slots=True)
class Kind:
    """A sort of requests.

    steps: UNet calls that it is part of. rows: that it takes of a replica's room, as the routing counts them; cost:
    what it takes of each of its calls, in rows of a megapixel. row_steps: as the policy counts its work. base: of its
    weights. size: rows of unlike ones do not share a call.
    """

    name: str
    share: float
    steps: int
    rows: float
    cost: float
    row_steps: float
    base: str = ""
    size: int = 1024


def kinds() -> Sequence[Kind]:
    """The mixture: few steps, guided, guided with many steps, and enlarged and drawn over, by the real functions."""
    square, guided = Size(width=1024, height=1024), Guidance(scale=4.0)
    upscale = (Upscale(source="https://example.com/picture.png", factor=2.0),)
    few = Spec(seeds=(1,), size=square, steps=8, sampler="lcm", schedule="lcm", loras=(LCM_LORA,))
    speed = Spec(seeds=(1,), size=square, steps=30, sampler="dpmpp_2m_sde", schedule="karras", guidance=guided)
    quality = speed.model_copy(update={"steps": 60})
    enlarged = speed.model_copy(update={"steps": 18, "size": None, "pictures": upscale})
    return (
        _kind("8 steps", 0.50, few, 1024),
        _kind("30 steps, guided", 0.30, speed, 1024),
        _kind("60 steps, guided", 0.15, quality, 1024),
        _kind("upscale", 0.05, enlarged, 2048),
    )


def _kind(name: str, share: float, spec: Spec, size: int) -> Kind:
    work = row_steps_of(spec)
    return Kind(name, share, spec.steps, rows_of(spec), work / spec.steps, work, weights_of(spec).base, size)


@dataclass(frozen=True)
class Shape:
    """How many come when. requests: in all, `mean` a second in the mean, once up and down from `low` to three times
    that, which is the mean at half. burst: the factor by which more come for `burst_s` seconds, from a quarter on."""

    requests: int = 1_000_000
    mean: float = 70.0
    wave: float = 3.0
    burst: float = 1.0
    burst_s: float = 30.0
    sets: int = 200
    zipf: float = 1.1
    keys: int = 64

    @property
    def seconds(self) -> float:
        return self.requests / self.mean


@dataclass(frozen=True)
class Trace:
    """Requests in the order of their arrival, a column each. kind: places in `kinds`; loras: numbers of sets."""

    kinds: Sequence[Kind]
    at: NDArray[np.float64]
    kind: NDArray[np.int64]
    loras: NDArray[np.int64]
    key: NDArray[np.int64]
    priority: NDArray[np.int64]
    weights: Sequence[Sequence[Weights]] = field(default=(), repr=False)  # by kind and set

    def __len__(self) -> int:
        return len(self.at)

    @property
    def row_steps(self) -> NDArray[np.float64]:
        """Of each request, as the policy counts them."""
        return np.array([kind.row_steps for kind in self.kinds])[self.kind]


def draw(shape: Shape, seed: int) -> Trace:
    """A trace of this shape, by chance."""
    chance, mixture = np.random.default_rng(seed), kinds()
    number = shape.requests
    return Trace(
        mixture,
        _arrivals(shape, chance),
        chance.choice(len(mixture), number, p=[kind.share for kind in mixture]),
        chance.choice(shape.sets, number, p=_zipf(shape.sets, shape.zipf)),
        chance.choice(shape.keys, number, p=_zipf(shape.keys, shape.zipf)),
        np.zeros(number, np.int64),
        named_weights(mixture, shape.sets),
    )


def named_weights(mixture: Sequence[Kind], sets: int) -> Sequence[Sequence[Weights]]:
    return [
        [Weights(kind.base, f"set {number}" if number >= 0 else "") for number in [*range(sets), -1]]
        for kind in mixture
    ]


def _arrivals(shape: Shape, chance: np.random.Generator) -> NDArray[np.float64]:
    """Chance in continuous time at the shape's rate, of which the number is given."""
    at = np.linspace(0.0, 1.0, 200_001)
    swing = (shape.wave - 1) / (shape.wave + 1)
    rate = 1 - swing * np.cos(2 * np.pi * at)
    begins = 0.25
    rate[(at >= begins) & (at < begins + shape.burst_s / shape.seconds)] *= shape.burst
    come = np.concatenate(([0.0], np.cumsum((rate[1:] + rate[:-1]) / 2)))
    seconds = shape.seconds / float(rate.mean())
    found = np.interp(np.sort(chance.random(shape.requests)) * come[-1], come, at) * seconds
    return np.asarray(found, np.float64)


def _zipf(number: int, power: float) -> NDArray[np.float64]:
    weights = 1 / np.arange(1, number + 1) ** power
    return np.asarray(weights / weights.sum(), np.float64)
