"""Pictures drawn at once: the engine with each switch, beside a plain diffusers loop."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.device.clock import seconds
from benchmarks.device.engine import Picture, Switch
from benchmarks.device.plain import GUIDANCE, PlainLoop
from benchmarks.device.rig import Rig, add
from benchmarks.device.rows import UNGUIDED, guide
from benchmarks.report import Table
from benchmarks.sdxl import Models
from pipelines.events import Pixels
from pipelines.unet.guide import Guidance


@dataclass(frozen=True)
class Batch:
    """Pictures that are drawn at once."""

    side: int
    steps: int
    pictures: int
    guided: bool

    @property
    def rows(self) -> int:
        """Of each UNet call."""
        return self.pictures * (2 if self.guided else 1)

    def drawn_with(self, models: Models) -> list[Picture]:
        guidance = Guidance(GUIDANCE) if self.guided else UNGUIDED
        return [
            Picture(self.side, self.steps, seed, guide(models, self.side, seed, guidance))
            for seed in range(self.pictures)
        ]


def batches(side: int, steps: Sequence[int], pictures: Sequence[int]) -> list[Batch]:
    return [Batch(side, each, count, guided) for guided in (False, True) for each in steps for count in pictures]


class PictureBench:
    """Measures pictures from their noise to their pixels. repeats: of each; the median counts."""

    def __init__(self, rig: Rig, repeats: int) -> None:
        self.table = Table("Pictures drawn at once: the engine beside a plain diffusers loop")
        self._rig, self._repeats = rig, repeats
        self._drawn: dict[Batch, Sequence[Pixels]] = {}  # by the plain path
        self._diffusers_s: dict[Batch, float] = {}

    def measure(self, switch: Switch, of: Sequence[Batch]) -> None:
        for batch in of:
            if switch.measures(batch.rows):
                self._measure(switch, batch)

    def _measure(self, switch: Switch, batch: Batch) -> None:
        """The pixels first, then the time. Beside the plain path diffusers draws too, in turn, so that what disturbs
        the machine disturbs both; a switch is compared with what it took then."""
        path = self._rig.path(switch)
        pictures, drawing = batch.drawn_with(path.models), path.drawing()
        loop = PlainLoop(self._rig.models, batch.side, batch.pictures, guided=batch.guided)
        known = self._diffusers_s.get(batch)
        ours, theirs = [], [] if known is None else [known]
        try:
            drawn = drawing.draw(pictures)
            self._drawn.setdefault(batch, drawn)
            if known is None:
                loop.draw(1)
            for _ in range(self._repeats):
                ours.append(seconds(partial(drawing.draw, pictures)))
                if known is None:
                    theirs.append(seconds(partial(loop.draw, batch.steps)))
        finally:
            drawing.close()
        ours_s, theirs_s = statistics.median(ours), statistics.median(theirs)
        self._diffusers_s[batch] = theirs_s
        floor_s = self._rig.floor_s(batch.side, batch.steps * batch.rows, batch.pictures)
        apart = np.abs(np.stack(drawn).astype(int) - np.stack(self._drawn[batch]).astype(int)).max()
        add(
            self.table,
            {
                "switch": switch.name,
                "size": batch.side,
                "steps": batch.steps,
                "guidance": "yes" if batch.guided else "no",
                "pictures at once": batch.pictures,
                "difference of 255": int(apart),
                "engine s": ours_s,
                "diffusers s": theirs_s,
                "engine / diffusers": ours_s / theirs_s,
                "engine pictures/s": batch.pictures / ours_s,
                "diffusers pictures/s": batch.pictures / theirs_s,
                "floor s": floor_s,
                "floor / engine": floor_s / ours_s,
            },
        )
