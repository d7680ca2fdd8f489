"""Bases: a family's models with LoRAs and the patch of an inpaint model merged in."""

from collections import OrderedDict, defaultdict
from collections.abc import Container, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from pipelines.parts import Part
from pipelines.weights.control_lora import build_control
from pipelines.weights.inpaint import patch_changes, patched_keys, read_head
from pipelines.weights.lora.changes import merged, upload
from pipelines.weights.lora.matching import Match, Targets
from pipelines.weights.lora.names import COMPONENTS, Component, Place
from pipelines.weights.variant_spec import Changes, VariantKey

if TYPE_CHECKING:
    from pipelines.weights.family import Family

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class InpaintFiles:
    """What makes an inpaint model of a UNet: the patch of its weights, and the head that sees the hole."""

    patch: Path
    head: Path


@dataclass(frozen=True, eq=False)
class Base:
    """Merged weights. What no LoRA touches is shared with the family, so never change it in place.

    key: what is merged. group: evaluations on bases with equal groups may share a UNet call; it tells every change of
    the UNet, and text_group every one of the text encoders. controls: the control networks that were asked for so far,
    by kind. unready: what was merged on a stream of its own, until `ready`. The merger fills both. head: of an inpaint
    model, (width, 5, 3, 3) float32, at the family's home; None for a base that is none.
    """

    key: VariantKey
    unet: UNet2DConditionModel
    text_encoders: tuple[CLIPTextModel, CLIPTextModelWithProjection]
    group: Hashable
    text_group: Hashable = ()
    head: Tensor | None = None
    controls: dict[Part, ControlNetModel] = field(default_factory=dict, repr=False)
    unready: list[tuple[torch.cuda.Event, Sequence[Tensor]]] = field(default_factory=list, repr=False)

    def ready(self) -> None:
        """Let the device's current stream wait for what another one merges. The host does not wait.

        Who runs the base calls it first, whenever it has got it from the store, and always on the same stream.
        """
        while self.unready:
            stream, (event, tensors) = torch.cuda.current_stream(self.unet.device), self.unready.pop()
            stream.wait_event(event)
            for tensor in tensors:  # so that its memory is not used anew while this stream still reads it
                tensor.record_stream(stream)


class Merger:
    """Makes bases of a family. Not for several threads at once.

    Weights are always merged from the checkpoint's, never from merged ones, so they are rounded once; a layer that two
    bases change alike is merged once and shared. They are read and made at their home, wherever they are run.
    """

    def __init__(self, family: "Family", *, own_stream: bool = False) -> None:
        """own_stream: merge beside what the device's current stream does; needs weights whose home is a CUDA device."""
        self.targets = Targets(family.unet, family.text_encoders)
        models = (family.unet, *family.text_encoders)
        self._ours: Mapping[Component, Any] = dict(zip(COMPONENTS, models, strict=True))
        # Bases are copied from these, which never run: transformers hangs hooks on what runs, in any thread.
        self._unused: Mapping[Component, Any] = {
            name: clone_sharing_parameters(model, {}) for name, model in self._ours.items()
        }
        self._shared = frozenset(id(parameter) for model in models for parameter in model.parameters())
        self._merged: WeakValueDictionary[tuple[Place, Changes, str], nn.Parameter] = WeakValueDictionary()
        cuda: Any = torch.cuda  # its streams are untyped
        self._home, self._device = family.residency.home, family.home
        self._stream = cuda.Stream(self._device) if own_stream else None
        if self._stream is not None:  # the family may still be on its way to the device
            self._stream.wait_stream(cuda.current_stream(self._device))

    @torch.no_grad()
    def merge(self, key: VariantKey, matches: Mapping[str, Match], inpaint: InpaintFiles | None = None) -> Base:
        """The base of a key. matches: of each of its files, by sha256. inpaint: the files of its patch, where it has
        one. Raises WeightsFault for files of an inpaint model that do not fit."""
        changes: defaultdict[Place, Changes] = defaultdict(tuple)
        for change in key.changes:
            for place in matches[change[0]].layers:
                changes[place] += (change,)
        patched = frozenset({} if inpaint is None else patched_keys(inpaint.patch, self._unused["unet"]))
        names: dict[Place, tuple[Place, Changes, str]] = {
            place: (place, changes.get(place, ()), _patch_of(key, place, patched))
            for place in (*changes, *(("unet", name) for name in patched if ("unet", name) not in changes))
        }
        known = {place: self._merged.get(name) for place, name in names.items()}
        wanted = {place for place, parameter in known.items() if parameter is None}
        changed: defaultdict[Component, dict[str, nn.Parameter]] = defaultdict(dict)
        with torch.cuda.stream(self._stream):
            there = {
                sha256: upload(
                    {place: layer for place, layer in match.layers.items() if place in wanted},
                    self._device,
                    pinned=self._stream is not None,
                )
                for sha256, match in matches.items()
            }

            def make(place: Place, more: Tensor | None = None) -> None:
                component, name = place
                layers = [(there[sha256][place], scale) for sha256, scale in names[place][1]]
                new = merged(self._home(self._unused[component].get_parameter(name)), layers, more)
                known[place] = self._merged[names[place]] = nn.Parameter(new, requires_grad=False)

            for place in wanted:
                if not names[place][2]:
                    make(place)
            if inpaint is not None:
                of_patch = {name for component, name in wanted if component == "unet" and name in patched}
                for name, more in patch_changes(inpaint.patch, self._unused["unet"], of_patch):
                    make(("unet", name), more)
            head = None if inpaint is None else read_head(inpaint.head).to(self._device)
            for (component, name), parameter in known.items():
                if parameter is not None:
                    changed[component][name] = parameter
        unet, first, second = (
            clone_sharing_parameters(self._unused[name], changed[name]) if changed[name] else ours
            for name, ours in self._ours.items()
        )
        of_unet, of_text = (
            tuple(
                sorted({change for place, each in changes.items() if (place[0] == "unet") is ours for change in each})
            )
            for ours in (True, False)
        )
        group, text_group = (key.base.checkpoint, key.base.patch, of_unet), (key.base.checkpoint, of_text)
        base = Base(key, unet, (first, second), group, text_group, head)
        self._leave(base, self.own_tensors(base))
        return base

    def add_control(self, base: Base, kind: Part, path: Path) -> None:
        """Give a base the control network that the control-LoRA at `path` makes of it. Raises as `build_control`."""
        with torch.cuda.stream(self._stream):
            network = build_control(base.unet, path, self._home)
        self._leave(base, list(network.parameters()))
        base.controls[kind] = network

    def own_tensors(self, base: Base) -> list[Tensor]:
        """What a base holds besides the family's."""
        modules = (base.unet, *base.text_encoders, *base.controls.values())
        held = {id(parameter): parameter for module in modules for parameter in module.parameters()}
        own: list[Tensor] = [parameter for name, parameter in held.items() if name not in self._shared]
        return own if base.head is None else [*own, base.head]

    def _leave(self, base: Base, tensors: Sequence[Tensor]) -> None:
        if self._stream is not None:
            base.unready.append((self._stream.record_event(), tensors))


def _patch_of(key: VariantKey, place: Place, patched: Container[str]) -> str:
    """The patch that changes a place; empty for none."""
    return key.base.patch if place[0] == "unet" and place[1] in patched else ""


def clone_sharing_parameters(module: Module, changed: Mapping[str, nn.Parameter]) -> Module:
    """A copy of `module` with other parameters under the names of `changed`, which shares every other tensor.

    `copy.deepcopy` with all tensors in its memo does the same and takes ten times as long as the merging.
    """
    replaced = {id(module.get_parameter(name)): parameter for name, parameter in changed.items()}
    clones: dict[int, Any] = {}

    def clone(module: nn.Module) -> Any:
        if id(module) not in clones:
            made = clones[id(module)] = object.__new__(type(module))
            # hooks and the like live in dicts of the module's own; whatever else it has, it never changes
            own = {
                name: each.copy() if type(each) in (dict, OrderedDict) else each for name, each in vars(module).items()
            }
            own["_parameters"] = {name: replaced.get(id(each), each) for name, each in module._parameters.items()}
            own["_modules"] = {name: each if each is None else clone(each) for name, each in module._modules.items()}
            vars(made).update(own)
        return clones[id(module)]

    cloned: Module = clone(module)
    return cloned
