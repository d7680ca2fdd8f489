"""The Brownian tree: the noise of the SDE samplers, one path per image whatever levels it is read at."""

import math
import struct

import numpy as np
import torch
from torch import Tensor

LEAVES = 2**8  # of the tree; readings within one leaf are bridged between each other


class BrownianTree:
    """A Brownian path over sigma in [low, high], fixed by its seed, read from high to low.

    More readings refine the same path, so that a picture of 60 steps resembles the one of 30. Called with two levels
    it gives the path's increment between them, normalised to a standard normal of `shape`; what lies above the higher
    of the two is forgotten then. Not for several threads.

    Middles of intervals are drawn first, each by a generator of its own, down to the leaves. (torchsde's tree goes on
    to a fixed tolerance, many draws for each reading, and the engine's thread would wait for them.)
    """

    def __init__(self, seed: int, shape: tuple[int, ...], low: float, high: float) -> None:
        self._seed = seed
        self._shape = shape
        self._low, self._high, self._reach = low, high, high
        self._nodes = {0: torch.zeros(shape), LEAVES: self._normal(LEAVES) * math.sqrt(high - low)}
        self._readings: dict[float, Tensor] = {low: self._nodes[0], high: self._nodes[LEAVES]}

    def __call__(self, sigma: float, after: float) -> Tensor:
        """The noise for the way from sigma to after. Raises ValueError outside the path or above what is forgotten."""
        higher, lower = self._read(max(sigma, after)), self._read(min(sigma, after))
        self._reach = max(sigma, after)
        self._forget()
        return (higher - lower) / math.sqrt(abs(sigma - after))

    def _read(self, level: float) -> Tensor:
        known = self._readings.get(level)
        if known is None:
            if not self._low < level < self._reach:
                raise ValueError(f"the path can be read from {self._low} to {self._reach}, not at {level}")
            left, right = self._enclosing_leaf(level)
            near = {self._level(index): self._nodes[index] for index in (left, right) if index in self._nodes}
            near |= {at: value for at, value in self._readings.items() if self._level(left) <= at <= self._level(right)}
            below, above = max(at for at in near if at <= level), min(at for at in near if at >= level)
            bits = struct.unpack("<Q", struct.pack("<d", level))[0]
            known = self._bridge(level, (below, near[below]), (above, near[above]), bits)
            self._readings[level] = known
        return known

    def _enclosing_leaf(self, level: float) -> tuple[int, int]:
        """The ends of the leaf around a level, with everything that its place in the tree depends on drawn."""
        left, right = 0, LEAVES
        while right - left > 1:
            middle = (left + right) // 2
            if middle not in self._nodes and self._level(middle) <= self._reach:
                ends = (self._level(left), self._nodes[left]), (self._level(right), self._nodes[right])
                self._nodes[middle] = self._bridge(self._level(middle), *ends, middle)
            if level < self._level(middle):
                right = middle
            else:
                left = middle
        return left, right

    def _bridge(self, level: float, below: tuple[float, Tensor], above: tuple[float, Tensor], key: int) -> Tensor:
        """The path between two known points: their line, and the variance that a Brownian bridge has there."""
        (low, first), (high, last) = below, above
        if low == high:
            return first
        share = (level - low) / (high - low)
        return torch.lerp(first, last, share) + self._normal(key) * math.sqrt((high - low) * share * (1 - share))

    def _level(self, index: int) -> float:
        share = index / LEAVES
        return self._low * (1 - share) + self._high * share

    def _normal(self, key: int) -> Tensor:
        seed = np.random.SeedSequence([self._seed, key]).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(seed))
        return torch.randn(self._shape, generator=generator)

    def _forget(self) -> None:
        # a path read downwards needs no node above its reach: those below it have been drawn from them
        self._nodes = {index: value for index, value in self._nodes.items() if self._level(index) <= self._reach}
        self._readings = {at: value for at, value in self._readings.items() if at <= self._reach}
