"""Which weights of a model a LoRA file changes, and whether it fits the model (fooocus-facts 9.2)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from pipelines.errors import InputFault
from pipelines.weights.embedding import Unfit, brings, vectors_of, width_of
from pipelines.weights.keys import original_name
from pipelines.weights.lora.architectures import SDXL
from pipelines.weights.lora.changes import Change
from pipelines.weights.lora.names import COMPONENTS, Component, Place, bundled_name, flat_name
from pipelines.weights.lora.reading import Broken, LoraFile, twice

MAX_UNMATCHED = 12  # tensors that a file may hold for layers that the model lacks
NAME, REASON = 200, 500  # characters of one of them
SAID = 3  # of many names or reasons, in one sentence


@dataclass(frozen=True, eq=False)
class Match:
    """What of a file fits a model.

    layers: by component and parameter. unmatched: names of tensors that are not applied. tensors: how many the file
    has. forced: whether it would have been refused without force. bundled: the names of the embeddings that it brings
    and that fit.
    """

    layers: Mapping[Place, Change]
    unmatched: tuple[str, ...]
    tensors: int
    forced: bool = False
    bundled: tuple[str, ...] = ()

    def __str__(self) -> str:
        """For whoever asked for it."""
        brought = f"; it brings {_some(self.bundled)}, as prompts may name it" if self.bundled else ""
        return self._applied + brought

    @property
    def _applied(self) -> str:
        if not self.unmatched:
            return f"all {self.tensors} tensors of this LoRA were applied"
        applied = f"{self.tensors - len(self.unmatched)} of the {self.tensors} tensors of this LoRA were applied"
        return f"{applied}{' by force' if self.forced else ''}, and not {_some(self.unmatched)}"


class Targets:
    """The weights of a model that LoRA files can name, by every name that they go by."""

    def __init__(self, unet: UNet2DConditionModel, text_encoders: Sequence[nn.Module]) -> None:
        self._weights: dict[Place, tuple[str, Tensor]] = {}
        for name, parameter in unet.named_parameters():
            self._add("unet", name, name, parameter)
            self._add("unet", original_name(name, unet.config), name, parameter)
        for component, encoder in zip(COMPONENTS[1:], text_encoders, strict=True):
            for name, parameter in encoder.named_parameters():
                self._add(component, name, name, parameter)
        first, second = text_encoders
        self._widths = width_of(first), width_of(second)

    def _add(self, component: Component, known_as: str, name: str, parameter: Tensor) -> None:
        module, _, kind = known_as.rpartition(".")
        self._weights[component, f"{flat_name(component, module)}.{kind}"] = name, parameter

    def match(self, file: LoraFile, *, force: bool = False) -> Match:
        """The parameters that a file changes.

        Raises InputFault `feature_not_supported` when more than 12 of its tensors fit nowhere, when any does not in a
        file for another architecture, or when a layer cannot be applied as a whole: drawing without them would be
        another picture than the one asked for. With force whatever fits is applied; a file of which nothing does, or
        that changes one weight twice, is refused with it too.
        """
        layers: dict[Place, Change] = {}
        named: dict[Place, str] = {}
        applied: list[Place] = []
        unmatched = list(file.strange)
        for place, change in file.layers.items():
            name, weight = self._weights.get(place, ("", None))
            target = place[0], name
            if weight is None or not change.fits(weight):
                unmatched += file.tensors[place]
            elif target in layers:
                raise twice(".".join(target), named[target], file.tensors[place][0])
            else:
                layers[target], named[target] = change, file.tensors[place][0]
                applied.append(place)
        broken: dict[str, Broken] = {}
        for why, each in file.broken.items():
            if each.layer is None or (each.layer[0], f"{each.layer[1]}.weight") in self._weights:
                broken[why] = each
            else:
                unmatched += each.names
        bundled: list[str] = []
        for embedding, parts in file.bundled.items():
            try:
                vectors_of(parts, self._widths)
                bundled.append(embedding)
            except Unfit as fault:
                broken[brings(embedding, fault)] = Broken(tuple(bundled_name(embedding, part) for part in parts))
        left = [name for each in broken.values() for name in each.names]
        whole = sum(len(file.tensors[place]) for place in applied) + sum(len(file.bundled[each]) for each in bundled)
        tensors = len(unmatched) + len(left) + whole
        wrong = _fault(file, whole, broken, unmatched, tensors)
        if wrong is not None and (not force or not whole):
            raise InputFault("feature_not_supported", wrong)
        return Match(layers, (*unmatched, *left), tensors, wrong is not None, tuple(bundled))


def _fault(
    file: LoraFile,
    applied: int,
    broken: Mapping[str, Broken],
    unmatched: Sequence[str],
    tensors: int,
) -> str | None:
    """Why a file is not applied unless by force. applied: how many of its tensors fit."""
    foreign = unmatched and file.made_for not in (None, SDXL)
    if foreign or len(unmatched) > MAX_UNMATCHED or not (applied or broken):
        belong = f"{len(unmatched)} of its {tensors} tensors belong to no layer of it, such as {_some(unmatched)}"
        made = f"This LoRA is made for {file.made_for} and does" if foreign else "This LoRA does"
        return f"{made} not fit the model, which is of the SDXL architecture: {belong}."
    if broken:
        return f"This LoRA cannot be applied as a whole: {_some(broken, '; ', REASON)}."
    return None


def _some(told: Mapping[str, object] | Sequence[str], between: str = ", ", most: int = NAME) -> str:
    few = [each[:most] for each in [*told][:SAID]]
    if len(told) > SAID:
        few.append(f"{len(told) - SAID} more")
    return between.join(few) or "none at all"
