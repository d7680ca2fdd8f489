"""Gathering: from unlike rows to the tensors of one UNet call, with one copy of numbers to the device."""

import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from torch.nn.functional import pad

from pipelines.device import Device
from pipelines.prompts.chunks import CHUNK
from pipelines.unet.branches import (
    LoraAdapter,
    LoraBranches,
    LoraSet,
    StackedSets,
    distinct,
    set_of,
    stacked_bytes,
)
from pipelines.unet.rows import Features, ImageAdapter, ImagePrompt, ImageTokens, Row

T = TypeVar("T")

REMEMBERED = 8  # stacks of constant tensors in each cache: a group's are needed again in its next call
BUDGET_BYTES = 2**28, 2**30  # of each cache, on a CPU and on a GPU
ROWS = (1, 2, 4, 6, 8, 12, 16)
CHUNKS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
CHUNK_TOKENS = CHUNK + 2  # with its first and its last


@dataclass(frozen=True, eq=False)
class Sample:
    """A latent to be predicted for: x (channels, h, w) float32 at sigma, and what its row carries."""

    x: Tensor
    sigma: float
    timestep: int
    row: Row


@dataclass(frozen=True, eq=False)
class Text:
    """The prompts of all rows. mask: (rows, tokens) 1 for tokens and 0 for padding; None where all are equally long.
    projected: what the cross-attentions of a UNet made of the context (`Features.projected`)."""

    context: Tensor
    mask: Tensor | None
    pooled: Tensor
    projected: WeakKeyDictionary[UNet2DConditionModel, dict[str, tuple[Tensor, Tensor]]] = field(
        default_factory=WeakKeyDictionary
    )


@dataclass(frozen=True, eq=False)
class ControlCall:
    """The rows that a network acts on. places: (n,) their numbers. hints: (n, channels, h, w). weights: (n,). loras:
    the LoRAs of these rows, which change the network as they change the UNet that it is made of."""

    network: ControlNetModel
    places: Tensor
    hints: Tensor
    weights: Tensor
    loras: LoraBranches | None = None


@dataclass(frozen=True, eq=False)
class UNetCall:
    """The arguments of one call; the first dimension of each tensor is its rows.

    x: scaled to unit variance, in the UNet's dtype. numbers: the caller's own columns, float32 on the device.
    """

    unet: UNet2DConditionModel
    x: Tensor
    timesteps: Tensor
    text: Text
    size_ids: Tensor
    controls: Sequence[ControlCall]
    features: Features
    numbers: Sequence[Tensor]

    @property
    def signature(self) -> Hashable:
        """Calls of equal signatures differ in nothing but the values of tensors."""
        loras = self.features.loras
        return (
            tuple(self.x.shape),
            tuple(self.text.context.shape),
            self.text.mask is not None,
            bool(self.controls),
            self.features.head is not None,
            tuple(tuple(each.tokens.shape) for each in self.features.images),
            None if loras is None else loras.signature,
        )


class Gatherer:
    """Gathers calls, on one thread. What is constant stays stacked while a group of rows is unchanged.

    What is kept is bounded by `Remembered`, once for texts, for LoRAs and for all else; an idle engine keeps it too.
    On a CPU that are keys and values of the text too, as they are and as LoRAs change them; on a GPU they would save
    little and take 27 MB a row of SDXL.
    rounded: whether row and token counts are rounded up, so that few signatures come up, for calls that are compiled.
    branch_bytes: what the stacked LoRAs of one call may take, and those that are kept; None for any call, and as much
    kept as of all else.
    tokens, padding: of prompts in all rows of all calls so far, and of these what only fills up.
    """

    def __init__(self, device: Device, *, rounded: bool = False, branch_bytes: int | None = None) -> None:
        self._device, self._rounded = device, rounded
        self._projects = device.device.type == "cpu" and not rounded
        budget_bytes = BUDGET_BYTES[device.device.type != "cpu"]
        self._tensors: Remembered[Tensor] = Remembered(budget_bytes)
        self._texts: Remembered[Text] = Remembered(budget_bytes)
        self._changed: Remembered[dict[str, tuple[Tensor, Tensor]]] = Remembered(budget_bytes)
        self._branch_bytes = branch_bytes
        self.tokens = self.padding = 0
        self._stacks: Remembered[StackedSets] = Remembered(budget_bytes if branch_bytes is None else branch_bytes)

    def holds(self, rows: Iterable[Row]) -> bool:
        """Whether the LoRAs of some rows may be in one call."""
        if self._branch_bytes is None:
            return True
        sets = self._sets_of(rows)
        return len(sets) < 2 or stacked_bytes(sets, rounded=self._rounded) <= self._branch_bytes

    def most_rows(self, cap: int) -> int:
        """The most rows that a call may have which is not rounded up beyond the cap."""
        return max(rows for rows in ROWS if rows <= cap) if self._rounded and cap < ROWS[-1] else cap

    def gather(
        self, unet: UNet2DConditionModel, samples: Sequence[Sample], numbers: Sequence[Sequence[float]] = ()
    ) -> UNetCall:
        """The arguments of a call. numbers: columns that are copied to the device with it."""
        dtype = unet.conv_in.weight.dtype  # asking diffusers for it walks all modules
        meant = len(samples)
        if self._rounded:
            samples = [*samples, *[samples[0]] * (_rounded_up(len(samples), ROWS) - len(samples))]
        rows = [sample.row for sample in samples]
        controls, images = _by_network(rows), _image_slots(rows)
        stacked = self._stack_sets(rows, dtype)
        adapters: LoraSet = () if stacked is None else stacked.adapters
        carrying = [] if stacked is None else self._carrying(rows, stacked, controls.values())
        columns = self._upload(
            [
                [sample.timestep for sample in samples],
                [(sample.sigma**2 + 1) ** -0.5 for sample in samples],
                *([place for place, _ in acting] for acting in controls.values()),
                *([rows[place].controls[at].weight for place, at in acting] for acting in controls.values()),
                *([prompt.scale if prompt else 0.0 for prompt in slot] for _, slot in images),
                *([_scale(row, adapter) for row in rows] for adapter in adapters),
                *(column for each in carrying for column in (each.rows, each.places or (), each.sets)),
                *numbers,
            ]
        )
        take = iter(columns)
        timesteps, variance = next(take), next(take)
        places, weights = [next(take).long() for _ in controls], [next(take) for _ in controls]
        scales, strengths = [next(take) for _ in images], [next(take) for _ in adapters]
        loras, *controlled = [_branches(stacked, strengths, each, take) for each in carrying] or [None] * (
            1 + len(controls)
        )
        x = torch.stack([sample.x for sample in samples]) * variance[:, None, None, None]
        text = self._text(rows, dtype, meant)
        hints = [[rows[place].controls[at].hint for place, at in acting] for acting in controls.values()]
        return UNetCall(
            unet,
            x.to(dtype),
            timesteps,
            text,
            self._stack([row.size_ids for row in rows], torch.float32),  # bfloat16 has no 819
            [
                ControlCall(network, at, self._stack(embedded, dtype), weight, branches)
                for network, at, embedded, weight, branches in zip(
                    _networks(rows, controls), places, hints, weights, controlled, strict=True
                )
            ],
            Features(
                self._head(rows, dtype),
                tuple(
                    ImageTokens(adapter, self._tokens(slot, dtype), each[:, None, None])
                    for (adapter, slot), each in zip(images, scales, strict=True)
                ),
                loras,
                self._projected(unet, text, rows, dtype) if self._projects else None,
            ),
            list(take),
        )

    def _upload(self, columns: Sequence[Sequence[float]]) -> Sequence[Tensor]:
        numbers = torch.tensor([number for column in columns for number in column], dtype=torch.float32)
        return torch.split(self._device.upload(numbers), [len(column) for column in columns])

    def _stack(self, tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        return self._tensors.get(tensors, dtype, lambda: torch.stack([*tensors]).to(dtype))

    def _text(self, rows: Sequence[Row], dtype: torch.dtype, meant: int) -> Text:
        """The prompts of all rows; shorter ones are padded with zeros that the mask hides. meant: how many rows were
        not added to round their count up."""
        lengths = [len(row.text.context) for row in rows]
        longest = max(lengths)
        if self._rounded:
            longest = CHUNK_TOKENS * _rounded_up(longest // CHUNK_TOKENS, CHUNKS)
        self.tokens += longest * len(lengths)
        self.padding += longest * len(lengths) - sum(lengths[:meant])

        def stack() -> Text:
            context = torch.stack([pad(row.text.context, (0, 0, 0, longest - len(row.text.context))) for row in rows])
            mask = None
            if self._rounded or min(lengths) < longest:
                told = torch.arange(longest)[None] < torch.tensor(lengths)[:, None]
                mask = self._device.upload(told).to(dtype)
            return Text(context.to(dtype), mask, torch.stack([row.text.pooled for row in rows]).to(dtype))

        return self._texts.get([row.text for row in rows], dtype, stack)

    def _head(self, rows: Sequence[Row], dtype: torch.dtype) -> Tensor | None:
        known = next((row.head for row in rows if row.head is not None), None)
        if known is None:
            return None
        return self._filled([row.head for row in rows], known, dtype)

    def _tokens(self, slot: Sequence[ImagePrompt | None], dtype: torch.dtype) -> Tensor:
        known = next(prompt.tokens for prompt in slot if prompt is not None)
        return self._filled([None if prompt is None else prompt.tokens for prompt in slot], known, dtype)

    def _filled(self, given: Sequence[Tensor | None], known: Tensor, dtype: torch.dtype) -> Tensor:
        """Stacked, with zeros like `known` for None."""

        def stack() -> Tensor:
            none = torch.zeros_like(known)
            return torch.stack([none if each is None else each for each in given]).to(dtype)

        return self._tensors.get(given, dtype, stack)

    def _projected(
        self, unet: UNet2DConditionModel, text: Text, rows: Sequence[Row], dtype: torch.dtype
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Keys and values of the text, as a UNet with the rows' LoRAs makes them."""
        if not any(row.loras for row in rows):
            return text.projected.setdefault(unet, {})
        # by a reference to the UNet, which is one as long as it lives, so as not to hold its weights
        known = [text, weakref.ref(unet), *(each for row in rows for each in (*row.loras, None))]
        return self._changed.get(known, dtype, dict)

    def _stack_sets(self, rows: Sequence[Row], dtype: torch.dtype) -> StackedSets | None:
        sets = self._sets_of(rows)
        if not sets:
            return None
        known = [each for one in sets for each in (*one, None)]
        return self._stacks.get(
            known, dtype, lambda: StackedSets.stack(sets, dtype, self._device, rounded=self._rounded)
        )

    def _sets_of(self, rows: Iterable[Row]) -> Sequence[LoraSet]:
        """The sets that are stacked for some rows; none where no row has any.

        Where counts are rounded up, every row takes one, and so there is an empty one for those that carry nothing: of
        another's, were it at a scale of 0, would come NaN where that overflows.
        """
        each = [set_of(row.loras) for row in rows]
        sets = distinct(each)
        if not sets or not self._rounded:
            return sets
        return [*sets, *[()] * (_rounded_up(len(sets) + (() in each), ROWS) - len(sets))]

    def _carrying(
        self, rows: Sequence[Row], stacked: StackedSets, acting: Iterable[Sequence[tuple[int, int]]]
    ) -> list["_Carrying"]:
        """Of the call, and of each control network's rows, those that carry LoRAs. Where counts are rounded up, all."""
        number = {tuple(map(id, each)): at for at, each in enumerate(stacked.sets)}
        sets = [number.get(tuple(map(id, set_of(row.loras)))) for row in rows]
        found = []
        for places in (range(len(rows)), *([place for place, _ in each] for each in acting)):
            carried = [(at, place, known) for at, place in enumerate(places) if (known := sets[place]) is not None]
            where = None if len(carried) == len(places) else [at for at, _, _ in carried]
            found.append(_Carrying([place for _, place, _ in carried], where, [known for _, _, known in carried]))
        return found


@dataclass(frozen=True)
class _Carrying:
    """Rows that carry LoRAs, among those that something acts on. rows: their numbers in the call. places: their numbers
    among the others; None where all do. sets: the number of each one's set."""

    rows: Sequence[int]
    places: Sequence[int] | None
    sets: Sequence[int]


def _branches(
    stacked: StackedSets | None, strengths: Sequence[Tensor], carrying: _Carrying, take: Iterator[Tensor]
) -> LoraBranches | None:
    """The LoRAs of these rows; None where none has any. strengths: of each adapter in all rows."""
    rows, places, sets = (next(take).long() for _ in range(3))
    if stacked is None or not carrying.rows:
        return None
    scales = torch.stack([*strengths, torch.zeros_like(strengths[0])], dim=1).index_select(0, rows)
    return LoraBranches.scaled(stacked, scales, None if carrying.places is None else places, sets)


class Remembered(Generic[T]):
    """What was lately made of groups of things in a dtype. It keeps the things alive: they are known by identity.

    Whenever something is made, only what was used last stays: at most `REMEMBERED` groups, and no more tensors of what
    was made and of its things than `budget_bytes`. The newest stays even when it alone is larger.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._made: OrderedDict[Hashable, tuple[Sequence[object], T]] = OrderedDict()

    def get(self, things: Sequence[object], dtype: torch.dtype, make: Callable[[], T]) -> T:
        name = dtype, *map(id, things)
        known = self._made.get(name)
        if known is not None:
            self._made.move_to_end(name)
            return known[1]
        made = make()
        self._made[name] = things, made
        self._trim()
        return made

    def _trim(self) -> None:
        sizes: dict[int, int] = {}
        kept = 0
        for held in reversed(self._made.values()):
            sizes.update((id(tensor), tensor.nbytes) for tensor in _tensors(held))
            if kept and (kept == REMEMBERED or sum(sizes.values()) > self._budget_bytes):
                break
            kept += 1
        while len(self._made) > kept:
            self._made.popitem(last=False)


def _tensors(held: object) -> Iterator[Tensor]:
    """All tensors in dataclasses, mappings and sequences."""
    match held:
        case Tensor():
            yield held
        case Mapping():
            yield from _tensors([*held.values()])
        case list() | tuple():
            for each in held:
                yield from _tensors(each)
        case _ if is_dataclass(held):
            for each in fields(held):
                yield from _tensors(getattr(held, each.name))


def _by_network(rows: Sequence[Row]) -> Mapping[int, Sequence[tuple[int, int]]]:
    """By identity of a network, the rows that it acts on and which of their controls that is."""
    acting: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for place, row in enumerate(rows):
        for at, branch in enumerate(row.controls):
            acting[id(branch.network)].append((place, at))
    return acting


def _networks(rows: Sequence[Row], acting: Mapping[int, Sequence[tuple[int, int]]]) -> Iterable[ControlNetModel]:
    return [rows[place].controls[at].network for (place, at), *_ in acting.values()]


def _image_slots(rows: Sequence[Row]) -> Sequence[tuple[ImageAdapter, Sequence[ImagePrompt | None]]]:
    """The image prompts of all rows in as few columns as hold them: each of one adapter, with one prompt a row."""
    adapters = {id(prompt.adapter): prompt.adapter for row in rows for prompt in row.images}
    slots = []
    for adapter in adapters.values():
        own = [[prompt for prompt in row.images if prompt.adapter is adapter] for row in rows]
        for at in range(max(map(len, own))):
            slots.append((adapter, [prompts[at] if at < len(prompts) else None for prompts in own]))
    return slots


def _scale(row: Row, adapter: LoraAdapter) -> float:
    return sum(lora.scale for lora in row.loras if lora.adapter is adapter)


def _rounded_up(count: int, known: Sequence[int]) -> int:
    """The first of the known counts that is not smaller; a larger one stays."""
    return next((each for each in known if each >= count), count)
