"""Reading of LoRA files: from their tensors to the changes of weights (fooocus-facts 9.2)."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from pipelines.errors import InputFault
from pipelines.weights.lora.architectures import made_for
from pipelines.weights.lora.bundled import MAX_BUNDLED, is_nameable
from pipelines.weights.lora.changes import Change
from pipelines.weights.lora.layers import READ, Unusable, changes_of
from pipelines.weights.lora.names import (
    BUNDLED,
    MAGNITUDE,
    OUTPUT_MAGNITUDE,
    Place,
    bundled_name,
    bundled_part,
    layers_around,
    parse,
    require_known_kind,
)

MAX_ALPHA = 1e6  # above any rank
# SDXL has some 1,600 layers with names of up to 100 letters. What a name costs to place grows with its square.
MAX_TENSORS, MAX_NAME = 20_000, 1_000
_GREATEST = torch.finfo(torch.float32).max  # in which changes are computed


@dataclass(frozen=True, slots=True)
class Broken:
    """Tensors that cannot be applied though their names are known. layer: which they are of, where they are of one."""

    names: tuple[str, ...]
    layer: Place | None = None


@dataclass(frozen=True, eq=False)
class LoraFile:
    """A parsed file.

    layers: by component and parameter, its module's name with underscores. tensors: the names of the file's tensors
    that make up each change. strange: names of tensors of no known kind. broken: by the reason, what cannot be
    applied. made_for: the architecture in words, where the file tells it. bundled: of the embeddings that it brings, by
    their names, the tensors by what they are.
    """

    layers: Mapping[Place, Change]
    tensors: Mapping[Place, tuple[str, ...]]
    strange: tuple[str, ...]
    broken: Mapping[str, Broken]
    made_for: str | None = None
    bundled: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        layers = sum(tensor.nbytes for layer in self.layers.values() for tensor in layer.tensors)
        return layers + sum(tensor.nbytes for each in self.bundled.values() for tensor in each.values())


def digest(path: Path) -> str:
    """sha256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_lora(path: Path) -> LoraFile:
    """Parse a safetensors file in any of the layouts of docs/models.md. Tensors stay on the CPU.

    Raises InputFault `feature_not_supported` for what is not safetensors (pickles are never opened), for kinds that are
    known and not computed, for a number that is not finite, for a file that says two things of one layer, and for more
    or longer names than any LoRA has.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            all_names = list(file.keys())
            _require_few(all_names)
            tensors = {name: file.get_tensor(name) for name in all_names}
    except (InputFault, MemoryError, OSError):  # told already, or ours and not the file's
        raise
    except Exception as fault:  # a decoder may raise anything for a broken file
        raise InputFault("feature_not_supported", "This LoRA is not a safetensors file.") from fault
    require_known_kind(tensors)
    alphas = _adapter_alphas(metadata, tensors)
    bundled, unnamed = _bundled(tensors)
    pieces, strange, unknown = _pieces({name: each for name, each in tensors.items() if not name.startswith(BUNDLED)})
    broken = {**unnamed, **unknown}
    layers: dict[Place, Change] = {}
    made_of: dict[Place, tuple[str, ...]] = {}
    for (component, module), names in pieces.items():
        try:
            found = [*changes_of({role: tensors[name] for role, name in names.items()}, alphas.get(component))]
        except Unusable as fault:
            broken[f"{component}.{module} {fault}"] = Broken(tuple(names.values()), (component, module))
            continue
        for each in found:
            place = component, f"{module}.{each.kind}"
            layers[place] = each.change
            made_of[place] = tuple(name for role, name in names.items() if role in each.roles)
    told = made_for({name: tuple(tensor.shape) for name, tensor in tensors.items()}, metadata)
    return LoraFile(layers, made_of, tuple(strange), broken, told, bundled)


def _bundled(tensors: Mapping[str, Tensor]) -> tuple[dict[str, dict[str, Tensor]], dict[str, Broken]]:
    """The tensors of each embedding that the file brings, and of those that no prompt can name."""
    found: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        part = bundled_part(name)
        if part is not None:
            _require_finite(name, tensor)
            found[part[0]][part[1]] = tensor
    if len(found) > MAX_BUNDLED:
        msg = f"This LoRA brings {len(found)} embeddings (bundle_emb), and at most {MAX_BUNDLED} are read."
        raise InputFault("feature_not_supported", msg)
    unnamed = [name for name in found if not is_nameable(name)]
    broken = {
        f"it brings the embedding {name[:64]!r} (bundle_emb), which no prompt can name": Broken(
            tuple(bundled_name(name, part) for part in found.pop(name))
        )
        for name in unnamed
    }
    return dict(found), broken


def _pieces(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[Place, dict[str, str]], list[str], dict[str, Broken]]:
    """The names of the tensors of each layer by their roles, of those of no known kind, and of what cannot be used."""
    pieces: defaultdict[Place, dict[str, str]] = defaultdict(dict)
    unknown: list[str] = []
    for name, tensor in tensors.items():
        _require_finite(name, tensor)
        part = parse(name)
        if part is None:
            unknown.append(name)
        elif part.role in pieces[part.place]:
            raise twice(".".join(part.place), pieces[part.place][part.role], name)
        else:
            pieces[part.place][part.role] = name
    strange = [name for name in unknown if pieces.keys().isdisjoint(layers_around(name))]
    broken = {f"{name} is of no known kind": Broken((name,)) for name in unknown if name not in strange}
    return pieces, strange, broken


def twice(layer: str, first: str, second: str) -> InputFault:
    """The fault of a file that says two things of one layer."""
    names = f"by {first[:200]} and by {second[:200]}"
    return InputFault("feature_not_supported", f"This LoRA changes {layer[:200]} twice: {names}.")


def _require_few(names: Sequence[str]) -> None:
    """Of a file that anybody may have made, before any of them is looked at."""
    if len(names) > MAX_TENSORS:
        msg = f"This LoRA has {len(names)} tensors, and no model that it could be for has {MAX_TENSORS}."
        raise InputFault("feature_not_supported", msg)
    if any(len(name) > MAX_NAME for name in names):
        msg = f"This LoRA has a tensor whose name is longer than {MAX_NAME} characters."
        raise InputFault("feature_not_supported", msg)


def _require_finite(name: str, tensor: Tensor) -> None:
    if tensor.dtype not in READ or not tensor.numel():
        return
    least, most = torch.aminmax(tensor if tensor.itemsize > 1 else tensor.float())  # either is NaN where any number is
    if not -_GREATEST <= float(least) <= float(most) <= _GREATEST:
        raise InputFault("feature_not_supported", f"This LoRA holds numbers that are not finite, in {name[:200]}.")


def _adapter_alphas(metadata: Mapping[str, str], names: Mapping[str, Tensor]) -> dict[str, float]:
    """alpha by component from the adapter description that newer diffusers writes beside the tensors."""
    unreadable = "The adapter description in this LoRA cannot be read."
    try:
        described: object = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except (ValueError, RecursionError) as fault:
        raise InputFault("feature_not_supported", unreadable) from fault
    if not isinstance(described, dict):
        raise InputFault("feature_not_supported", unreadable)
    alphas: dict[str, float] = {}
    for key, value in described.items():
        component, _, setting = key.rpartition(".")
        if setting == "lora_alpha" and isinstance(value, int | float):
            if not abs(value) <= MAX_ALPHA:
                raise InputFault("feature_not_supported", f"The alpha of this LoRA is not within {MAX_ALPHA:g}.")
            alphas[component or "unet"] = float(value)
        elif setting in ("alpha_pattern", "use_rslora") and value:
            raise InputFault("feature_not_supported", f"This LoRA uses {setting}, which is not supported.")
        elif (
            setting == "use_dora" and value and not any(MAGNITUDE in name or OUTPUT_MAGNITUDE in name for name in names)
        ):
            raise InputFault("feature_not_supported", "This LoRA says that it is a DoRA and has no magnitudes.")
    return alphas
