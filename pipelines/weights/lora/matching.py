"""Which weights of a model a LoRA file changes, and whether it fits the model (fooocus-facts 9.2)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from pipelines.errors import InputFault
from pipelines.weights.keys import original_name
from pipelines.weights.lora.changes import LowRank
from pipelines.weights.lora.names import COMPONENTS, Component, Place, flat_name
from pipelines.weights.lora.reading import LoraFile

MAX_UNMATCHED = 12  # tensors that a file may hold for layers that the model lacks


@dataclass(frozen=True, eq=False)
class Match:
    """What of a file fits a model. layers: by component and parameter. unmatched: what fits nowhere."""

    layers: Mapping[Place, LowRank]
    unmatched: tuple[str, ...]


class Targets:
    """The weights of a model that LoRA files can name, by every name that they go by."""

    def __init__(self, unet: UNet2DConditionModel, text_encoders: Sequence[nn.Module]) -> None:
        self._weights: dict[Place, tuple[str, Tensor]] = {}
        for name, module in _layers(unet):
            self._add("unet", name, name, module.weight)
            self._add("unet", original_name(name, unet.config), name, module.weight)
        for component, encoder in zip(COMPONENTS[1:], text_encoders, strict=True):
            for name, module in _layers(encoder):
                self._add(component, name, name, module.weight)

    def _add(self, component: Component, known_as: str, name: str, weight: Tensor) -> None:
        self._weights[component, flat_name(component, known_as)] = f"{name}.weight", weight

    def match(self, file: LoraFile) -> Match:
        """The parameters that a file changes.

        Raises InputFault `feature_not_supported` when more than 12 of its tensors, or all, fit nowhere: drawing
        without them would silently be another picture than the one asked for.
        """
        layers: dict[Place, LowRank] = {}
        unmatched = list(file.strange)
        for place, layer in file.layers.items():
            target = self._weights.get(place)
            if target is None or not layer.fits(target[1]):
                unmatched += [".".join(place)] * file.tensors[place]
            else:
                layers[place[0], target[0]] = layer
        if len(unmatched) > MAX_UNMATCHED or not layers:
            raise InputFault(
                "feature_not_supported",
                f"This LoRA does not fit the model: {len(unmatched)} of its tensors belong to no layer of it, "
                f"such as {', '.join(unmatched[:3]) or 'none at all'}.",
            )
        return Match(layers, tuple(unmatched))


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Linear | nn.Conv2d]]:
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            yield name, module
