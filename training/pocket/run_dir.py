"""The folder of a training run: its checkpoints and its log, from which it goes on after an interruption."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch.optim.swa_utils import get_ema_multi_avg_fn


@dataclass(frozen=True)
class RunDir:
    """A part in training. folder: holds `checkpoint.pt`, `log.jsonl` and whatever the part makes for later ones."""

    folder: Path
    device: torch.device
    console: Console

    @classmethod
    def open(cls, root: Path, part: str, device: torch.device) -> "RunDir":
        folder = root / part
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder, device, Console())

    def resume(self) -> dict[str, Any] | None:
        """The last checkpoint, if there is one."""
        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            return None
        found: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        return found

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint in one move, so that an interruption leaves the old or the new one."""
        aside = self.folder / "checkpoint.new"
        torch.save(dict(state), aside)
        aside.replace(self.folder / "checkpoint.pt")

    def log(self, step: int, **figures: float) -> None:
        told = {"step": step, **{name: round(value, 5) for name, value in figures.items()}}
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": int(time.time()), **told}) + "\n")
        self.console.print("  ".join(f"{name} {value}" for name, value in told.items()), highlight=False)


class Average:
    """An exponential moving average of a module's weights, which draws better than the last step's."""

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        self._decay = decay
        self.weights = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}

    @torch.no_grad()
    def follow(self, module: torch.nn.Module, step: int) -> None:
        now = module.state_dict()
        update = get_ema_multi_avg_fn(min(self._decay, (1 + step) / (10 + step)))  # type: ignore[no-untyped-call]
        update(list(self.weights.values()), [now[name] for name in self.weights], None)
