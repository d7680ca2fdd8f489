"""Branches: the LoRAs that rows of a UNet call carry, each row its own: W x + s B A x."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from pipelines.device import Device
from pipelines.weights.lora.changes import LowRank

RANKS = (4, 8, 16, 32, 64, 128)  # what ranks are rounded up to where calls are compiled


@dataclass(frozen=True, eq=False)
class LoraAdapter:
    """Low-rank changes of a UNet's layers, at its weights' home, by the names of their modules. `down` and `up` have as
    many dimensions as the layer's weight."""

    layers: Mapping[str, LowRank]

    @cached_property
    def rank(self) -> int:
        """The largest of its layers."""
        return max((len(each.down) for each in self.layers.values()), default=0)

    @cached_property
    def rank_bytes(self) -> int:
        """What one rank of all its layers takes."""
        return sum((each.down.nbytes + each.up.nbytes) // len(each.down) for each in self.layers.values())

    @cached_property
    def places(self) -> frozenset[str]:
        return frozenset(self.layers)


@dataclass(frozen=True, eq=False)
class RowLora:
    """A low-rank change of one row. Rows with equal adapters and unlike scales share its tensors."""

    adapter: LoraAdapter
    scale: float


LoraSet: TypeAlias = tuple[LoraAdapter, ...]  # what a row carries, whatever the scales


def set_of(loras: Iterable[RowLora]) -> LoraSet:
    """The adapters of a row, in the one order that all rows have them in."""
    found = {id(lora.adapter): lora.adapter for lora in loras}
    return tuple(found[name] for name in sorted(found))


def distinct(sets: Iterable[LoraSet]) -> tuple[LoraSet, ...]:
    """The sets that there are, without the empty one, in the one order that all calls have them in."""
    found = {tuple(map(id, each)): each for each in sets if each}
    return tuple(found[name] for name in sorted(found))


def set_bytes(adapters: Iterable[LoraAdapter], *, rounded: bool = False) -> int:
    """What one set takes when it is stacked alone. rounded: as `StackedSets.stack` has it."""
    together: defaultdict[str, list[LowRank]] = defaultdict(list)
    for adapter in adapters:
        for place, layer in adapter.layers.items():
            together[place].append(layer)
    size = 0
    for layers in together.values():
        rank = sum(len(layer.down) for layer in layers)
        a_rank = (layers[0].down.nbytes + layers[0].up.nbytes) // len(layers[0].down)
        size += a_rank * (_rounded_up(rank) if rounded else rank)
    return size


def stacked_bytes(sets: Sequence[LoraSet], *, rounded: bool = False) -> int:
    """What sets take at most when they are stacked: all padded to the rank and to the layers of the largest.

    rounded: as `StackedSets.stack` has it.
    """
    adapters = {id(each): each for one in sets for each in one}.values()
    kinds = {each.places: each.rank_bytes for each in adapters}  # files of one kind have the same layers
    rank = max((sum(each.rank for each in one) for one in sets), default=0)
    if rounded:
        rank = _rounded_up(rank)
    return len(sets) * rank * sum(kinds.values())


@dataclass(frozen=True, eq=False)
class StackedSets:
    """Sets of LoRAs, stacked layer by layer.

    layers: by module (down, up, pattern): `down` (sets, rank, inputs, ...) has the ranks of a set's adapters behind one
    another and then zeros, `up` is (sets, outputs, rank). patterns: (sets, rank) int64 each, which adapter each rank is
    of; the number behind the last one for none. weights: holds all of `layers`, for whoever brings it to the device.
    """

    sets: tuple[LoraSet, ...]
    layers: Mapping[str, tuple[Tensor, Tensor, int]]
    patterns: Sequence[Tensor]
    weights: nn.Module = field(default_factory=nn.Module)

    @property
    def adapters(self) -> LoraSet:
        """In the order of their numbers."""
        return tuple({id(each): each for one in self.sets for each in one}.values())

    @classmethod
    def stack(
        cls, sets: Sequence[LoraSet], dtype: torch.dtype, device: Device, *, rounded: bool = False
    ) -> "StackedSets":
        """Stack distinct sets, where their tensors are, with one copy to the device. rounded: up to `RANKS`."""
        stacked = cls(tuple(sets), {}, ())
        number = {id(adapter): at for at, adapter in enumerate(stacked.adapters)}
        numbers: dict[tuple[tuple[int, ...], ...], int] = {}
        layers: dict[str, tuple[Tensor, Tensor, int]] = {}
        with torch.inference_mode(False), torch.no_grad():  # what is brought to a device is changed
            for place in dict.fromkeys(place for adapter in stacked.adapters for place in adapter.layers):
                parts = [[each.layers[place] for each in one if place in each.layers] for one in sets]
                rank = max(sum(len(layer.down) for layer in part) for part in parts)
                if rounded:
                    rank = _rounded_up(rank)
                owners = (
                    [number[id(each)] for each in one if place in each.layers for _ in each.layers[place].down]
                    for one in sets
                )
                pattern = tuple((*each, *[len(number)] * (rank - len(each))) for each in owners)
                down, up = _stacked(parts, rank, dtype)
                layers[place] = down, up, numbers.setdefault(pattern, len(numbers))
        every = [owner for pattern in numbers for row in pattern for owner in row]
        uploaded = device.upload(torch.tensor(every, dtype=torch.int64))
        shapes = [(len(pattern), len(pattern[0])) for pattern in numbers]
        split = torch.split(uploaded, [rows * rank for rows, rank in shapes])
        patterns = [each.view(shape) for each, shape in zip(split, shapes, strict=True)]
        weights = nn.ParameterList([side for down, up, _ in layers.values() for side in (down, up)])
        return cls(stacked.sets, layers, patterns, weights)


class LayerChange(NamedTuple):
    """What changes a layer's answer in some rows. down: (n, rank, inputs, ...). up: (n, outputs, rank). strengths:
    (n, rank). rows: (n,) their numbers; None for all of the call."""

    down: Tensor
    up: Tensor
    strengths: Tensor
    rows: Tensor | None


@dataclass(frozen=True, eq=False)
class LoraBranches:
    """The LoRAs of a call. rows: (n,) the rows that carry any; None: all. sets: (n,) which set each of those carries.
    strengths: (n, rank) of each pattern, the scale of each rank."""

    stacked: StackedSets
    rows: Tensor | None
    sets: Tensor
    strengths: Sequence[Tensor]

    @classmethod
    def scaled(cls, stacked: StackedSets, scales: Tensor, rows: Tensor | None, sets: Tensor) -> "LoraBranches":
        """scales: (n, adapters + 1), of each adapter in the rows that carry any; 0 in the last column."""
        dtype = next(iter(stacked.layers.values()))[0].dtype
        strengths = [scales.gather(1, pattern.index_select(0, sets)).to(dtype) for pattern in stacked.patterns]
        return cls(stacked, rows, sets, strengths)

    def change_of(self, place: str) -> LayerChange | None:
        """What changes a layer's answer; None for nothing."""
        found = self.stacked.layers.get(place)
        if found is None:
            return None
        down, up, pattern = found
        return LayerChange(
            down.index_select(0, self.sets), up.index_select(0, self.sets), self.strengths[pattern], self.rows
        )

    @property
    def signature(self) -> tuple[object, ...]:
        """Of what is not the values of tensors."""
        shapes = ((place, tuple(down.shape), each) for place, (down, _, each) in self.stacked.layers.items())
        return self.rows is None, len(self.sets), *shapes


def _stacked(parts: Sequence[Sequence[LowRank]], rank: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """`down` and `up` of one layer in all sets, as parameters. parts: of each set, which may have none."""
    known = next(layer for part in parts for layer in part)
    no_down = known.down.new_zeros(rank, *known.down.shape[1:], dtype=dtype)
    no_up = known.up.new_zeros(len(known.up), rank, dtype=dtype)
    downs, ups = [], []
    for part in parts:
        missing = rank - sum(len(layer.down) for layer in part)
        downs += [*(_times(layer.down.to(dtype), layer.factor) for layer in part), no_down[:missing]]
        ups += [*(layer.up.to(dtype).flatten(1) for layer in part), no_up[:, :missing]]
    down = torch.cat(downs).view(len(parts), rank, *no_down.shape[1:])
    up = torch.cat(ups, dim=1).view(len(no_up), len(parts), rank).transpose(0, 1)  # one copy each, for there are many
    return nn.Parameter(down, requires_grad=False), nn.Parameter(up, requires_grad=False)


def _rounded_up(rank: int) -> int:
    return next((each for each in RANKS if each >= rank), rank)


def _times(side: Tensor, factor: float) -> Tensor:
    return side if factor == 1 else side * factor
