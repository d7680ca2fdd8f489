"""Reading of LoRA files: from their tensors to the changes of layers (fooocus-facts 9.2)."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from pipelines.errors import InputFault
from pipelines.weights.lora.changes import LowRank
from pipelines.weights.lora.names import ALPHA, DOWN, UP, Place, parse

MAX_ALPHA = 1e6  # above any rank

# magnitudes of DoRA, and factors of LoHa, LoKr and (IA)3
_OTHER = re.compile(r"\.(dora_scale|lora_magnitude_vector|hada_w\d_\w|lokr_\w+|on_input)\b")


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
        found = parse(name)
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
        alpha = float(piece[ALPHA]) if ALPHA in piece else alphas.get(component)
        layers[component, module] = LowRank(piece[DOWN], piece[UP], alpha)
        counts[component, module] = len(piece)
    return LoraFile(digest(path), layers, counts, tuple(strange))


def _is_low_rank(piece: Mapping[str, Tensor]) -> bool:
    """Whether the tensors of a layer, which may be anybody's, are a product that can be computed."""
    if DOWN not in piece or UP not in piece or (ALPHA in piece and piece[ALPHA].numel() != 1):
        return False
    sides = (piece[DOWN], piece[UP])
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
