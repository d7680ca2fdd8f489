"""The rig: the models on their device, its clock and its measured rate, and the engine's path with each switch."""

from collections.abc import Sequence

import torch

from benchmarks.device.clock import DeviceClock
from benchmarks.device.engine import EnginePath, Switch
from benchmarks.report import Cell, Table, shown
from benchmarks.sdxl import Models, build, cost
from pipelines.device import set_arithmetic

MOST_ROWS = 16


class Rig:
    """What every part of the benchmark measures with.

    rate: operations a second of a large matrix product in the weights' type, which is the base of floors.
    """

    def __init__(self, device: torch.device, sizes: Sequence[int], *, pocket: bool) -> None:
        set_arithmetic()
        self.clock = DeviceClock(device, hasty=pocket)
        self.models: Models = build(
            pocket=pocket, device=device, dtype=torch.bfloat16 if device.type == "cuda" else torch.float32
        )
        self.costs = {side: cost(side, pocket=pocket) for side in sizes}
        self.rate = self.clock.matrix_rate(self.models.dtype)
        self._paths: dict[Switch, EnginePath] = {}

    @property
    def on_gpu(self) -> bool:
        return self.models.device.type == "cuda"

    def floor_s(self, side: int, rows: int, decodes: int = 0) -> float:
        """Seconds that the arithmetic of UNet rows and VAE decodes takes at the measured rate."""
        each = self.costs[side]
        return (rows * each.unet_row + decodes * each.decode) / self.rate

    def path(self, switch: Switch) -> EnginePath:
        """The engine's path with a switch, the same for all parts: what it has compiled stays compiled."""
        if switch not in self._paths:
            self._paths[switch] = EnginePath(self.models, switch, MOST_ROWS)
        return self._paths[switch]

    def close(self) -> None:
        for path in self._paths.values():
            path.close()


def add(table: Table, row: dict[str, Cell]) -> None:
    """Add a row and print it, so that a run which is cut off has said what it found."""
    if not table.rows or list(table.rows[-1]) != list(row):
        print(f"{table.title}: {' | '.join(row)}", flush=True)
    table.rows.append(row)
    print(" | ".join(shown(value) for value in row.values()), flush=True)
