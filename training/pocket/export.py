"""Take over what was trained: `python -m training.pocket.export`. The pocket family is then written with it."""

import argparse
import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from models.pocket.trained import file_of
from training.pocket.parts import PARTS
from training.pocket.train import CHECKPOINTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=Path, default=CHECKPOINTS, help="as given to training.pocket.train")
    folder: Path = parser.parse_args().checkpoints
    shipped = {name: (part, weights) for part in PARTS for name, weights in PARTS[part].left(folder / part).items()}
    for name, (part, weights) in shipped.items():
        path = keep(weights, name)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB, from {part}, sha256 {digest}")


def keep(weights: Mapping[str, Tensor], name: str) -> Path:
    """Write weights where they are shipped from, as float16."""
    path = file_of(name)
    path.parent.mkdir(exist_ok=True)
    save_file({key: tensor.to("cpu", torch.float16).contiguous() for key, tensor in weights.items()}, path)
    path.chmod(0o644)  # safetensors makes its files for their owner alone
    return path


if __name__ == "__main__":
    main()
