"""Take over what was trained: `python -m training.pocket.export`. The pocket family is then written with it."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from models.pocket.trained import file_of
from training.pocket.frozen_models import finished_unet
from training.pocket.train import ALONE, CHECKPOINTS, TAUGHT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=Path, default=CHECKPOINTS, help="as given to training.pocket.train")
    folder: Path = parser.parse_args().checkpoints
    parts: dict[str, Any] = {}
    if (found := folder / "texts" / "encoders.pt").is_file():
        parts["text_encoder"], parts["text_encoder_2"] = _read(found)
    if unet := finished_unet(folder):
        parts["unet"] = _read(unet)
    for part in (*ALONE, *TAUGHT):
        if (found := folder / part / "weights.pt").is_file():
            parts[part] = _read(found)
    for part, weights in parts.items():
        path = keep(weights, part)
        print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")


def _read(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def keep(weights: Mapping[str, Tensor], part: str) -> Path:
    """Write the weights of a part where they are shipped from."""
    path = file_of(part)
    path.parent.mkdir(exist_ok=True)
    save_file({name: tensor.to("cpu", torch.float16).contiguous() for name, tensor in weights.items()}, path)
    path.chmod(0o644)  # safetensors makes its files for their owner alone
    return path


if __name__ == "__main__":
    main()
