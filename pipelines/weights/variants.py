"""Variants: a family's weights with LoRAs merged in, and their control networks, within a budget of bytes."""

import logging
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from pipelines.errors import InputFault
from pipelines.weights.control_lora import build_control
from pipelines.weights.lora import Component, LoraFile, LowRank, Match, Place, Targets, digest, merged, read_lora
from pipelines.weights.recipe import BaseKey, Changes, Recipe, Scaled, VariantKey
from pipelines.weights.shelf import Shelf

if TYPE_CHECKING:
    from pipelines.weights.family import Family

Module = TypeVar("Module", bound=nn.Module)
FileState = tuple[Path, int, int]  # path, time of change in ns, bytes: another state is another file

REMEMBERED_DIGESTS = 4096
TOLD = 32  # names in a report, which is sent every second

log = logging.getLogger("fooocus.weights")


@dataclass(frozen=True, eq=False)
class Variant:
    """A base with a row's adapters. What no LoRA touches is shared with the family, so never change it in place.

    group: evaluations whose variants have equal groups may share a UNet call. The store merges adapters too, so today
    it tells every change of the UNet; with low-rank branches per row it would tell those of the base alone.
    controls: the networks that were asked for so far, by kind; filled by the store.
    """

    key: VariantKey
    unet: UNet2DConditionModel
    text_encoders: tuple[CLIPTextModel, CLIPTextModelWithProjection]
    group: Hashable
    controls: dict[str, ControlNetModel] = field(default_factory=dict, repr=False)


class VariantStore:
    """Builds variants and keeps the ones used last. Methods may be called from any thread.

    budget_bytes: of merged tensors, control networks and parsed files together, besides the family's own weights.
    The newest variant stays even when it alone is larger. A variant that a caller still holds is never broken by
    eviction, and is found again while it is held. Weights are always merged from the checkpoint's, never from merged
    ones, so they are rounded once; a layer that two variants change alike is merged once and shared.
    """

    def __init__(self, family: "Family", budget_bytes: int) -> None:
        self._family = family
        self._checkpoint = family.catalogue.checkpoint.name
        self._targets = Targets(family.unet, family.text_encoders)
        # Variants are copied from these, which never run: transformers hangs hooks on what runs, in any thread.
        first, second = family.text_encoders
        self._unet, self._text_encoders = (
            clone_sharing_parameters(family.unet, {}),
            (clone_sharing_parameters(first, {}), clone_sharing_parameters(second, {})),
        )
        self._ours = frozenset(_bytes_by_tensor((family.unet, first, second)))
        self._shelf: Shelf[VariantKey | str, Variant | LoraFile] = Shelf(budget_bytes)
        self._held: WeakValueDictionary[VariantKey, Variant] = WeakValueDictionary()
        self._merged: WeakValueDictionary[tuple[Place, Changes], nn.Parameter] = WeakValueDictionary()
        self._digests: OrderedDict[FileState, str] = OrderedDict()
        self._lock = threading.Lock()  # of the above; held for moments only
        self._building = threading.RLock()  # one at a time: building is bound by memory, and two would need it twice

    @property
    def resident_bytes(self) -> int:
        """What the store holds besides the family's own weights."""
        with self._lock:
            return self._shelf.resident_bytes

    def names(self) -> tuple[str, ...]:
        """What is kept, the variant used last at the end: at most `TOLD` of them."""
        with self._lock:
            kept = [key for key in self._shelf if isinstance(key, VariantKey)]
        return tuple(str(key) for key in kept[-TOLD:])

    def find(self, recipe: Recipe) -> Variant | None:
        """The variant of a recipe if it is at hand, with its control networks; never reads, merges or waits for it."""
        with self._lock:
            digests = {path: self._digests.get(_state(path), "") for path in _paths(recipe)}
            if not all(digests.values()):
                return None
            variant = self._held.get(self._key(recipe, digests))
            if variant is None or any(kind not in variant.controls for kind in recipe.controls):
                return None
            self._keep(variant)
            return variant

    def get(self, recipe: Recipe) -> Variant:
        """The variant of a recipe with the control networks that it names; what is missing is built, which may take
        seconds.

        Raises InputFault `feature_not_supported`, with the field of the LoRA, for a file that does not fit, and
        OSError for one that is not there.
        """
        variant = self.find(recipe)
        if variant is not None:
            return variant
        with self._building:
            digests = {path: self._digest(path) for path in _paths(recipe)}
            key = self._key(recipe, digests)
            with self._lock:
                variant = self._held.get(key)
            if variant is None:
                variant = self._build(key, {digests[each.path]: each for each in _loras(recipe)})
            networks = {
                kind: build_control(variant.unet, self._family.catalogue.control(kind))
                for kind in recipe.controls
                if kind not in variant.controls
            }
            with self._lock:
                variant.controls.update(networks)
                self._held[key] = variant
                self._keep(variant, grown=bool(networks))
            return variant

    def _key(self, recipe: Recipe, digests: Mapping[Path, str]) -> VariantKey:
        performance, adapters = (
            _summed((digests[each.path], each.scale) for each in part) for part in (recipe.performance, recipe.adapters)
        )
        return VariantKey(BaseKey(self._checkpoint, performance), adapters)

    def _digest(self, path: Path) -> str:
        state = _state(path)
        with self._lock:
            known = self._digests.get(state)
        sha256 = known or digest(path)
        with self._lock:
            self._digests[state] = sha256
            self._digests.move_to_end(state)
            if len(self._digests) > REMEMBERED_DIGESTS:
                self._digests.popitem(last=False)
        return sha256

    def _build(self, key: VariantKey, sources: Mapping[str, Scaled]) -> Variant:
        changes = _summed(_changes(key))
        layers: defaultdict[Place, dict[str, LowRank]] = defaultdict(dict)
        for sha256, _ in changes:
            for place, layer in self._match(sha256, sources[sha256]).layers.items():
                layers[place][sha256] = layer
        changed: defaultdict[Component, dict[str, nn.Parameter]] = defaultdict(dict)
        of_unet: set[tuple[str, float]] = set()
        for (component, name), touching in layers.items():
            here = tuple((sha256, scale) for sha256, scale in changes if sha256 in touching)
            changed[component][name] = self._merge((component, name), here, touching)
            if component == "unet":
                of_unet.update(here)
        ours, (first, second) = self._family, self._text_encoders
        return Variant(
            key,
            clone_sharing_parameters(self._unet, changed["unet"]) if changed["unet"] else ours.unet,
            (
                clone_sharing_parameters(first, changed["text_encoder"])
                if changed["text_encoder"]
                else ours.text_encoders[0],
                clone_sharing_parameters(second, changed["text_encoder_2"])
                if changed["text_encoder_2"]
                else ours.text_encoders[1],
            ),
            group=(key.base.checkpoint, tuple(sorted(of_unet))),
        )

    def _match(self, sha256: str, source: Scaled) -> Match:
        with self._lock:
            file = self._shelf.find(sha256)
        try:
            if not isinstance(file, LoraFile):
                file = read_lora(source.path)
                with self._lock:
                    self._shelf.put(sha256, file, {id(file): file.bytes})
            match = self._targets.match(file)
        except InputFault as fault:
            raise InputFault(fault.type, fault.msg, source.field, fault.ctx) from fault
        if match.unmatched:
            log.warning("%s has tensors for layers that the model lacks: %s", source.path.name, match.unmatched)
        return match

    def _merge(self, place: Place, changes: Changes, layers: Mapping[str, LowRank]) -> nn.Parameter:
        parameter = self._merged.get((place, changes))
        if parameter is None:
            component, name = place
            weight = self._weight(component, name)
            parameter = nn.Parameter(
                merged(weight, [(layers[sha256], scale) for sha256, scale in changes]), requires_grad=False
            )
            self._merged[place, changes] = parameter
        return parameter

    def _weight(self, component: Component, name: str) -> nn.Parameter:
        first, second = self._family.text_encoders
        models: dict[Component, nn.Module] = {
            "unet": self._family.unet,
            "text_encoder": first,
            "text_encoder_2": second,
        }
        return models[component].get_parameter(name)

    def _keep(self, variant: Variant, *, grown: bool = False) -> None:
        """Make a variant the one used last, and its files those before it, so that its like is built from memory."""
        for sha256, _ in _changes(variant.key):
            self._shelf.find(sha256)
        if grown or self._shelf.find(variant.key) is None:
            held = _bytes_by_tensor((variant.unet, *variant.text_encoders, *variant.controls.values()))
            own = {tensor: size for tensor, size in held.items() if tensor not in self._ours}
            self._shelf.put(variant.key, variant, own)


def _loras(recipe: Recipe) -> tuple[Scaled, ...]:
    return (*recipe.performance, *recipe.adapters)


def _paths(recipe: Recipe) -> list[Path]:
    return [each.path for each in _loras(recipe)]


def _changes(key: VariantKey) -> Changes:
    return (*key.base.performance, *key.adapters)


def _summed(changes: Iterable[tuple[str, float]]) -> Changes:
    scales: defaultdict[str, float] = defaultdict(float)
    for sha256, scale in changes:
        scales[sha256] += scale
    return tuple(sorted((sha256, scale) for sha256, scale in scales.items() if scale != 0))


def _state(path: Path) -> FileState:
    stat = path.stat()
    return path, stat.st_mtime_ns, stat.st_size


def _bytes_by_tensor(modules: Iterable[nn.Module]) -> dict[int, int]:
    return {id(tensor): tensor.nbytes for module in modules for tensor in module.parameters()}


def clone_sharing_parameters(module: Module, changed: Mapping[str, nn.Parameter]) -> Module:
    """A copy of `module` with other parameters under the names of `changed`, which shares every other tensor.

    `copy.deepcopy` with all tensors in its memo does the same and takes ten times as long as the merging.
    """
    return _twin(module, {id(module.get_parameter(name)): parameter for name, parameter in changed.items()}, {})


def _twin(module: Module, replaced: Mapping[int, nn.Parameter], twins: dict[int, Any]) -> Module:
    if id(module) not in twins:
        twin = twins[id(module)] = object.__new__(type(module))
        # hooks and the like live in dicts of the module's own; whatever else it has, it never changes
        own = {
            name: value.copy() if type(value) in (dict, OrderedDict) else value for name, value in vars(module).items()
        }
        vars(twin).update(
            own,
            _parameters={name: replaced.get(id(value), value) for name, value in module._parameters.items()},
            _modules={
                name: None if child is None else _twin(child, replaced, twins)
                for name, child in module._modules.items()
            },
        )
    found: Module = twins[id(module)]
    return found
