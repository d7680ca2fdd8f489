"""LoRA files: their layouts, the weights that they change, and the change itself (fooocus-facts 9.2)."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors import safe_open
from torch import Tensor, nn

from pipelines.errors import InputFault
from pipelines.weights.keys import original_name

Component = Literal["unet", "text_encoder", "text_encoder_2"]
COMPONENTS: tuple[Component, ...] = ("unet", "text_encoder", "text_encoder_2")
Place = tuple[Component, str]  # a component and the name of a module or of a parameter in it

MAX_ALPHA = 1e6  # above any rank
MAX_UNMATCHED = 12  # tensors that a file may hold for layers that the model lacks

# kohya's prefixes, then those of diffusers, of ComfyUI and of peft; the first that fits is taken
_PREFIXES: tuple[tuple[str, Component], ...] = (
    ("lora_unet_", "unet"),
    ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"),
    ("lora_te_", "text_encoder"),
    ("unet.", "unet"),
    ("text_encoder.", "text_encoder"),
    ("text_encoder_2.", "text_encoder_2"),
    ("diffusion_model.", "unet"),
    ("base_model.model.", "unet"),
)
_DOWN, _UP, _ALPHA = "down", "up", "alpha"
_ROLES = (
    (re.compile(r"\.lora_A(\.default)?\.weight$"), _DOWN),
    (re.compile(r"\.lora_B(\.default)?\.weight$"), _UP),
    (re.compile(r"\.(lora_|lora\.|lora_linear_layer\.)down\.weight$"), _DOWN),
    (re.compile(r"\.(lora_|lora\.|lora_linear_layer\.)up\.weight$"), _UP),
    (re.compile(r"\.alpha$"), _ALPHA),
)
_PROCESSOR = re.compile(r"\.processor\.(to_\w+?)_lora\.(down|up)\.weight$")  # attention processors of older diffusers


@dataclass(frozen=True, eq=False)
class LowRank:
    """The change of one layer. down: (rank, inputs, ...). up: (outputs, rank, ...). alpha: None means the rank."""

    down: Tensor
    up: Tensor
    alpha: float | None = None

    def fits(self, weight: Tensor) -> bool:
        """Whether the product has the shape of `weight`, that is, whether the file was made for such a model."""
        up, down = self.up.flatten(1), self.down.flatten(1)
        return up.shape[1] == down.shape[0] and (up.shape[0], down.shape[1]) == weight.flatten(1).shape

    def delta(self, weight: Tensor) -> Tensor:
        """alpha/rank * up @ down, float32, in the shape and on the device of `weight`, which it must fit."""
        down = self.down.to(weight.device, torch.float32).flatten(1)
        up = self.up.to(weight.device, torch.float32).flatten(1)
        # `up` of a convolution is 1x1; so the product's columns are input channel by kernel, as in the weight
        scale = 1.0 if self.alpha is None else self.alpha / down.shape[0]
        return (up @ down).reshape(weight.shape) * scale


@dataclass(frozen=True, eq=False)
class LoraFile:
    """A parsed file.

    digest: sha256 of its bytes, hexadecimal. layers: by component and module, the module's name with underscores.
    tensors: how many tensors of the file make up each layer. strange: names of tensors of no known kind.
    """

    digest: str
    layers: Mapping[Place, LowRank]
    tensors: Mapping[Place, int]
    strange: tuple[str, ...]

    @property
    def bytes(self) -> int:
        return sum(layer.down.nbytes + layer.up.nbytes for layer in self.layers.values())


@dataclass(frozen=True, eq=False)
class Match:
    """What of a file fits a model. layers: by component and parameter. unmatched: what fits nowhere."""

    layers: Mapping[Place, LowRank]
    unmatched: tuple[str, ...]


# magnitudes of DoRA, and factors of LoHa, LoKr and (IA)3
_OTHER = re.compile(r"\.(dora_scale|lora_magnitude_vector|hada_w\d_\w|lokr_\w+|on_input)\b")


def digest(path: Path) -> str:
    """sha256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_lora(path: Path) -> LoraFile:
    """Parse a safetensors file in the layout of kohya, of diffusers or of peft. Tensors stay on the CPU.

    Raises InputFault `feature_not_supported` for what is not safetensors (pickles are never opened) and for
    decompositions that are no plain low-rank products.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    except (MemoryError, OSError):  # ours, not the file's
        raise
    except Exception as fault:  # a decoder may raise anything for a broken file
        raise InputFault("feature_not_supported", "This LoRA is not a safetensors file.") from fault
    pieces: dict[Place, dict[str, Tensor]] = {}
    strange: list[str] = []
    for name, tensor in tensors.items():
        if _OTHER.search(name):
            msg = f"This LoRA is no product of two matrices alone, which is what can be merged: it has {name[:200]}."
            raise InputFault("feature_not_supported", msg)
        found = _parse(name)
        if found is None:
            strange.append(name)
        else:
            place, role = found
            pieces.setdefault(place, {})[role] = tensor
    alphas = _adapter_alphas(metadata)
    layers, counts = {}, {}
    for (component, module), piece in pieces.items():
        if not _is_low_rank(piece):
            strange += [f"{component}.{module}.{role}" for role in piece]
            continue
        alpha = float(piece[_ALPHA]) if _ALPHA in piece else alphas.get(component)
        layers[component, module] = LowRank(piece[_DOWN], piece[_UP], alpha)
        counts[component, module] = len(piece)
    return LoraFile(digest(path), layers, counts, tuple(strange))


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
        self._weights[component, _flat(component, known_as)] = f"{name}.weight", weight

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


def upload(layers: Mapping[Place, LowRank], device: torch.device, *, pinned: bool = False) -> Mapping[Place, LowRank]:
    """The same layers on a device, to which they go in one copy for each of their dtypes.

    pinned: through page-locked memory, so that the host does not wait for it; needs a CUDA device.
    """
    if device.type == "cpu":
        return layers
    sides = [side for layer in layers.values() for side in (layer.down, layer.up)]
    there: dict[int, Tensor] = {}
    for dtype in {side.dtype for side in sides}:
        like = [side for side in sides if side.dtype is dtype]
        sizes = [side.numel() for side in like]
        flat = torch.cat([side.flatten() for side in like], out=torch.empty(sum(sizes), dtype=dtype, pin_memory=pinned))
        parts = torch.split_with_sizes(flat.to(device, non_blocking=pinned), sizes)
        there |= {id(side): part.view(side.shape) for side, part in zip(like, parts, strict=True)}
    return {place: LowRank(there[id(layer.down)], there[id(layer.up)], layer.alpha) for place, layer in layers.items()}


@torch.no_grad()
def merged(weight: Tensor, changes: Iterable[tuple[LowRank, float]], more: Tensor | None = None) -> Tensor:
    """`weight` + `more`, of its shape, + the sum of scale * alpha/rank * up @ down: summed in float32, rounded once to
    the weight's dtype."""
    total = weight.detach().to(torch.float32, copy=True)
    if more is not None:
        total += more.to(total.device)
    for layer, scale in changes:
        total += scale * layer.delta(weight)
    return total.to(weight.dtype)


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Linear | nn.Conv2d]]:
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            yield name, module


def _flat(component: Component, module: str) -> str:
    # transformers 5 dropped the inner name of the plain text encoder; files have it
    name = module if component == "unet" else re.sub(r"^text_model[._]", "", module)
    return name.replace(".", "_")


def _parse(name: str) -> tuple[Place, str] | None:
    found = next((known for known in _PREFIXES if name.startswith(known[0])), None)
    prefix, component = found or ("", "unet")  # what a UNet alone saves has no prefix
    rest = name.removeprefix(prefix)
    processor = _PROCESSOR.search(rest)
    if processor:
        module = f"{rest[: processor.start()]}.{processor[1]}"
        place = component, _flat(component, module + ".0" if processor[1] == "to_out" else module)
        return place, processor[2]
    for pattern, role in _ROLES:
        match = pattern.search(rest)
        if match:
            return (component, _flat(component, rest[: match.start()])), role
    return None


def _is_low_rank(piece: Mapping[str, Tensor]) -> bool:
    """Whether the tensors of a layer, which may be anybody's, are a product that can be computed."""
    if _DOWN not in piece or _UP not in piece or (_ALPHA in piece and piece[_ALPHA].numel() != 1):
        return False
    sides = (piece[_DOWN], piece[_UP])
    return all(side.ndim in (2, 4) and side.is_floating_point() and side.numel() for side in sides)


def _adapter_alphas(metadata: Mapping[str, str]) -> dict[str, float]:
    """alpha by component from the adapter description that newer diffusers writes beside the tensors."""
    try:
        described: dict[str, Any] = dict(json.loads(metadata.get("lora_adapter_metadata", "{}")))
    except (TypeError, ValueError, RecursionError) as fault:
        raise InputFault("feature_not_supported", "The adapter description in this LoRA cannot be read.") from fault
    alphas: dict[str, float] = {}
    for key, value in described.items():
        component, _, setting = key.rpartition(".")
        if setting == "lora_alpha" and isinstance(value, int | float):
            if not abs(value) <= MAX_ALPHA:
                raise InputFault("feature_not_supported", f"The alpha of this LoRA is not within {MAX_ALPHA:g}.")
            alphas[component or "unet"] = float(value)
        elif setting in ("alpha_pattern", "use_rslora", "use_dora") and value:
            raise InputFault("feature_not_supported", f"This LoRA uses {setting}, which is not supported.")
    return alphas
