"""The weights that were trained and are shipped with the code: float16, a file a part."""

import hashlib
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

FOLDER = Path(__file__).parent / "weights"


def file_of(part: str) -> Path:
    """Where the weights of a part are: a model of the checkpoint, or a part that `training.pocket.train` names."""
    return FOLDER / f"{part}.safetensors"


def trained(part: str) -> dict[str, Tensor]:
    """The weights of a part. Raises FileNotFoundError where there are none."""
    return {name: tensor.float() for name, tensor in load_file(file_of(part)).items()}


def put_in_place(module: nn.Module, part: str) -> None:
    """Replace a module's weights by the trained ones. Raises FileNotFoundError where there are none."""
    module.load_state_dict(trained(part))


def digests() -> list[bytes]:
    """What the shipped files are, in a fixed order."""
    return [hashlib.sha256(path.read_bytes()).digest() for path in sorted(FOLDER.glob("*.safetensors"))]
