"""Bases: a family's models with LoRAs merged in."""

from collections import OrderedDict, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from pipelines.weights.lora import COMPONENTS, Component, LowRank, Match, Place, Targets, merged
from pipelines.weights.recipe import Changes, VariantKey

if TYPE_CHECKING:
    from pipelines.weights.family import Family

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Base:
    """Merged weights. What no LoRA touches is shared with the family, so never change it in place.

    key: what is merged. group: evaluations on bases with equal groups may share a UNet call; it tells every change of
    the UNet. controls: the control networks that were asked for so far, by kind; filled by the store.
    """

    key: VariantKey
    unet: UNet2DConditionModel
    text_encoders: tuple[CLIPTextModel, CLIPTextModelWithProjection]
    group: Hashable
    controls: dict[str, ControlNetModel] = field(default_factory=dict, repr=False)


class Merger:
    """Makes bases of a family. Not for several threads at once.

    Weights are always merged from the checkpoint's, never from merged ones, so they are rounded once; a layer that two
    bases change alike is merged once and shared.
    """

    def __init__(self, family: "Family") -> None:
        self.targets = Targets(family.unet, family.text_encoders)
        models = (family.unet, *family.text_encoders)
        self._ours: Mapping[Component, Any] = dict(zip(COMPONENTS, models, strict=True))
        # Bases are copied from these, which never run: transformers hangs hooks on what runs, in any thread.
        self._unused: Mapping[Component, Any] = {
            name: clone_sharing_parameters(model, {}) for name, model in self._ours.items()
        }
        self._shared = frozenset(_bytes_by_tensor(models))
        self._merged: WeakValueDictionary[tuple[Place, Changes], nn.Parameter] = WeakValueDictionary()

    def merge(self, key: VariantKey, matches: Mapping[str, Match]) -> Base:
        """The base of a key. matches: of each of its files, by sha256."""
        touching: defaultdict[Place, dict[str, LowRank]] = defaultdict(dict)
        for sha256, match in matches.items():
            for place, layer in match.layers.items():
                touching[place][sha256] = layer
        changed: defaultdict[Component, dict[str, nn.Parameter]] = defaultdict(dict)
        of_unet: set[tuple[str, float]] = set()
        for (component, name), layers in touching.items():
            changes = tuple((sha256, scale) for sha256, scale in key.changes if sha256 in layers)
            changed[component][name] = self._merge((component, name), changes, layers)
            if component == "unet":
                of_unet.update(changes)
        unet, first, second = (
            clone_sharing_parameters(self._unused[name], changed[name]) if changed[name] else ours
            for name, ours in self._ours.items()
        )
        return Base(key, unet, (first, second), (key.base.checkpoint, tuple(sorted(of_unet))))

    def own_bytes(self, base: Base) -> dict[int, int]:
        """Of each tensor that a base holds besides the family's, by its id."""
        held = _bytes_by_tensor((base.unet, *base.text_encoders, *base.controls.values()))
        return {tensor: size for tensor, size in held.items() if tensor not in self._shared}

    def _merge(self, place: Place, changes: Changes, layers: Mapping[str, LowRank]) -> nn.Parameter:
        parameter = self._merged.get((place, changes))
        if parameter is None:
            weight = self._unused[place[0]].get_parameter(place[1])
            new = merged(weight, [(layers[sha256], scale) for sha256, scale in changes])
            parameter = self._merged[place, changes] = nn.Parameter(new, requires_grad=False)
        return parameter


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
