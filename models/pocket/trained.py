"""The weights that were trained and are shipped with the code: float16, a file a part."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

FOLDER = Path(__file__).parent / "weights"


def file_of(part: str) -> Path:
    """Where the weights of a part are, once it is trained.

    Models are named as the folders of a diffusers model are, LoRAs as their files in the family.
    """
    return FOLDER / f"{part}.safetensors"


def trained(part: str) -> dict[str, Tensor] | None:
    """The weights of a part, if it is trained."""
    path = file_of(part)
    return {name: tensor.float() for name, tensor in load_file(path).items()} if path.is_file() else None


def put_in_place(module: nn.Module, part: str) -> None:
    """Replace a module's weights by the trained ones, if there are any."""
    if weights := trained(part):
        module.load_state_dict(weights)


def keep(weights: Mapping[str, Tensor], part: str) -> Path:
    """Write the weights of a part where they are shipped from."""
    path = file_of(part)
    path.parent.mkdir(exist_ok=True)
    save_file({name: tensor.to("cpu", torch.float16).contiguous() for name, tensor in weights.items()}, path)
    path.chmod(0o644)  # safetensors makes its files for their owner alone
    return path


def digests() -> list[bytes]:
    """What the shipped files are, in a fixed order."""
    return [hashlib.sha256(path.read_bytes()).digest() for path in sorted(FOLDER.glob("*.safetensors"))]
