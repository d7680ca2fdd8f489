"""Variants: a family's weights with LoRAs merged in, and their control networks, within a budget of bytes."""

import copy
import logging
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakValueDictionary

from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from pipelines.errors import InputFault
from pipelines.weights.control_lora import build_control

if TYPE_CHECKING:
    from pipelines.weights.family import Family
from pipelines.weights.lora import Component, LoraFile, LowRank, Place, Targets, digest, merged, read_lora

VariantKey = tuple[tuple[str, float], ...]
Changes = dict[Place, list[tuple[LowRank, float]]]
Module = TypeVar("Module", bound=nn.Module)

REMEMBERED_DIGESTS = 4096

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Variant:
    """Weights with a given set of LoRAs. What no LoRA touches is shared with the family, so never change them in place.

    key: (sha256 of the file, scale) of each LoRA, sorted; () is the family itself. controls: filled by the store.
    """

    key: VariantKey
    unet: UNet2DConditionModel
    text_encoders: tuple[CLIPTextModel, CLIPTextModelWithProjection]
    controls: dict[str, ControlNetModel] = field(default_factory=dict, repr=False)


class VariantStore:
    """Builds variants and keeps the ones used last. Methods may be called from any thread.

    budget_bytes: of merged tensors, control networks and parsed files together, besides the family's own weights.
    The newest variant stays even when it alone is larger. A variant that a caller still holds is never broken by
    eviction, and is found again while it is held.
    """

    def __init__(self, family: "Family", budget_bytes: int) -> None:
        self._family = family
        self._budget_bytes = budget_bytes
        self._targets = Targets(family.unet, family.text_encoders)
        self._base = Variant((), family.unet, family.text_encoders)
        self._kept: OrderedDict[VariantKey, Variant] = OrderedDict()
        self._bytes: dict[VariantKey, int] = {}
        self._held: WeakValueDictionary[VariantKey, Variant] = WeakValueDictionary()
        self._files: OrderedDict[str, LoraFile] = OrderedDict()
        self._digest = lru_cache(REMEMBERED_DIGESTS)(_digest_as_of)
        self._lock = threading.RLock()

    @property
    def resident_bytes(self) -> int:
        """What the store holds besides the family's own weights."""
        with self._lock:
            return sum(file.bytes for file in self._files.values()) + sum(self._bytes.values())

    def get(self, loras: Sequence[tuple[Path, float]], fields: Sequence[str] = ()) -> Variant:
        """The variant of some (file, scale) pairs, in any order; scales of a file that is given twice add up.

        fields: where in the client's input each was named, for the InputFault that a file raises which does not fit.
        """
        with self._lock:
            scales: dict[str, float] = defaultdict(float)
            origins: dict[str, tuple[Path, str]] = {}
            for at, (path, scale) in enumerate(loras):
                if scale != 0:
                    sha256 = self._digest_of(path)
                    scales[sha256] += scale
                    origins[sha256] = path, fields[at] if fields else ""
            key = tuple(sorted((sha256, scale) for sha256, scale in scales.items() if scale != 0))
            variant = self._held.get(key) if key else self._base
            if variant is None:
                variant = self._build(key, origins)
            self._keep(variant)
            return variant

    def control(self, variant: Variant, kind: str) -> ControlNetModel:
        """The control network of `kind` on top of a variant's weights; lives and goes with the variant."""
        with self._lock:
            network = variant.controls.get(kind)
            if network is None:
                network = build_control(variant.unet, self._family.catalogue.control(kind))
                variant.controls[kind] = network
                self._measure(variant)
            self._keep(variant)
            return network

    def _digest_of(self, path: Path) -> str:
        stat = path.stat()
        return self._digest(path, stat.st_mtime_ns, stat.st_size)

    def _build(self, key: VariantKey, origins: Mapping[str, tuple[Path, str]]) -> Variant:
        changes: Changes = defaultdict(list)
        for sha256, scale in key:
            path, origin = origins[sha256]
            try:
                match = self._targets.match(self._read(sha256, path))
            except InputFault as fault:
                raise InputFault(fault.type, fault.msg, origin, fault.ctx) from fault
            if match.unmatched:
                log.warning("LoRA %s has tensors for layers that the model lacks: %s", sha256, match.unmatched)
            for place, layer in match.layers.items():
                changes[place].append((layer, scale))
        first, second = self._family.text_encoders
        return Variant(
            key,
            _changed(self._family.unet, "unet", changes),
            (_changed(first, "text_encoder", changes), _changed(second, "text_encoder_2", changes)),
        )

    def _read(self, sha256: str, path: Path) -> LoraFile:
        if sha256 not in self._files:
            self._files[sha256] = read_lora(path)
        self._files.move_to_end(sha256)
        return self._files[sha256]

    def _keep(self, variant: Variant) -> None:
        if variant.key not in self._kept:
            self._kept[variant.key] = variant
            self._measure(variant)
        self._held[variant.key] = variant
        self._kept.move_to_end(variant.key)
        # files go first: parsing one again costs less than merging it again
        while self._files and self.resident_bytes > self._budget_bytes:
            self._files.popitem(last=False)
        while len(self._kept) > 1 and self.resident_bytes > self._budget_bytes:
            key, dropped = self._kept.popitem(last=False)
            del self._bytes[key]
            if dropped is self._base:  # it never leaves memory, so what hangs on it must be let go by hand
                dropped.controls.clear()

    def _measure(self, variant: Variant) -> None:
        shared = _bytes_by_tensor(self._family.unet, *self._family.text_encoders)
        held = _bytes_by_tensor(variant.unet, *variant.text_encoders, *variant.controls.values())
        self._bytes[variant.key] = sum(size for tensor, size in held.items() if tensor not in shared)


def _bytes_by_tensor(*modules: nn.Module) -> dict[int, int]:
    return {id(tensor): tensor.nbytes for module in modules for tensor in module.parameters()}


def _digest_as_of(path: Path, modified_ns: int, size: int) -> str:
    """The digest of a file in the state that its last two arguments tell; they make a changed file another one."""
    del modified_ns, size
    return digest(path)


def _changed(module: Module, component: Component, changes: Changes) -> Module:
    """A copy of `module` that shares every tensor that does not change; `module` itself when none does."""
    touched = {name: layers for (place, name), layers in changes.items() if place == component}
    if not touched:
        return module
    memo: dict[int, object] = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    for name, layers in touched.items():
        weight = module.get_parameter(name)
        memo[id(weight)] = nn.Parameter(merged(weight, layers), requires_grad=False)
    return copy.deepcopy(module, memo)
