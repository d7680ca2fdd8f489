"""Miniatures of the published files, in their true layouts and under their true names, made of the pocket family's."""

import io
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from models.catalogue import find
from models.families import read_family, write_family
from models.fetching import record_of
from models.pocket import names
from models.pull_presets import PRESETS
from pipelines.catalogue import Catalogue
from pipelines.weights.inpaint import LEVELS, RANGE
from pipelines.weights.integrity import sha256_of


def pickled(content: Any) -> bytes:
    written = io.BytesIO()
    torch.save(content, written)
    return written.getvalue()


def nested(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """As IP-Adapter's files are: `image_proj` and `ip_adapter`, each a dict of its own."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        group, _, rest = name.partition(".")
        found.setdefault(group, {})[rest] = tensor
    return found


def patch(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """As Fooocus' patch is: of each weight its levels, the least and the most."""
    keys = [name.removesuffix(LEVELS) for name in tensors if name.endswith(LEVELS)]
    return {key: (tensors[key + LEVELS], *tensors[key + RANGE].unbind()) for key in keys}


def upscaler(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Under the names that Fooocus' file has."""
    return {name.replace("RDB", "residual_block_"): tensor for name, tensor in tensors.items()}


PICKLES: Mapping[str, Callable[[Mapping[str, Tensor]], Any]] = {
    "image_prompt": nested,
    "face_prompt": nested,
    "inpaint_head": dict,
    "inpaint_patch": patch,
    "upscaler": upscaler,
    "safety_checker": dict,
}


def pocket_file(pocket: Path, name: str) -> Path:
    """The pocket family's file of a part, in the form that a service loads."""
    path = pocket / names.PARTS[name]
    return path / "model.safetensors" if path.is_dir() else path


def small(seed: int, count: int = 3000) -> bytes:
    """A safetensors file of a few kilobytes, unlike others."""
    return save({"weight": torch.full((count,), float(seed))})


def repositories(pocket: Path) -> dict[str, dict[str, bytes]]:
    """What the hub has: all that the presets name. The parts are the pocket family's, the others say nothing."""
    found: dict[str, dict[str, bytes]] = {}
    for seed, name in enumerate(dict.fromkeys(name for preset in PRESETS.values() for name in preset)):
        entry = find(name)
        if name in PICKLES:
            content = pickled(PICKLES[name](load_file(pocket_file(pocket, name))))
        elif name in ("canny", "cpds", "vision", "image_prompt_negative"):
            content = pocket_file(pocket, name).read_bytes()
        else:
            content = small(seed)
        assert entry.repository is not None
        assert entry.path is not None
        found.setdefault(entry.repository, {})[entry.path] = content
    return found


def drawable(pocket: Path) -> dict[str, dict[str, bytes]]:
    """Likewise, and the checkpoints and LoRAs are the pocket family's: what comes of a preset draws."""
    family, found = Catalogue.open(pocket), repositories(pocket)
    for name in dict.fromkeys(name for preset in PRESETS.values() for name in preset):
        entry = find(name)
        own = family.checkpoint if entry.use == "checkpoint" else family.lora(entry.file)
        if own is not None:
            assert entry.repository is not None
            assert entry.path is not None
            found[entry.repository][entry.path] = own.read_bytes()
    return found


def give_shapes(folder: Path, pocket: Path) -> None:
    """Make of a family that was pulled from `drawable` one of the pocket's shapes, by its configurations alone.

    The weights stay as they came. `config` is what `import --config` gives a checkpoint whose shapes are not SDXL's; of
    the parts that have configurations, what a pull writes for the published shapes is replaced, with its records.
    """
    family = read_family(folder)
    shutil.copytree(pocket / "config", folder / "config")
    files = dict(family.files)
    for path, record in family.files.items():
        if path.endswith(".json"):
            shutil.copy(pocket / path, folder / path)
            files[path] = record_of(folder / path, sha256_of(folder / path), record.header, record.origin)
    write_family(folder, family.model_copy(update={"config": "config", "files": files}))
