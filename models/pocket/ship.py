"""Take over what was trained: `python -m models.pocket.ship`. The pocket family is then written with it."""

import argparse
from pathlib import Path

import torch

from models.pocket.train import CHECKPOINTS
from models.pocket.trained import keep
from models.pocket.write import LCM, LIGHTNING


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=Path, default=CHECKPOINTS, help="as given to models.pocket.train")
    folder: Path = parser.parse_args().checkpoints
    first, second = torch.load(folder / "texts" / "encoders.pt", map_location="cpu", weights_only=True)
    unet = torch.load(folder / "pictures" / "unet.pt", map_location="cpu", weights_only=True)
    parts = {"text_encoder": first, "text_encoder_2": second, "unet": unet}
    for mode, name in (("extreme_speed", LCM), ("lightning", LIGHTNING)):
        if (lora := folder / mode / "lora.pt").is_file():
            parts[Path(name).stem] = torch.load(lora, map_location="cpu", weights_only=True)
    for part, weights in parts.items():
        path = keep(weights, part)
        print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
