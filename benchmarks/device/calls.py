"""UNet calls: the answers of each switch beside the plain path's, then their time."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from benchmarks.device.engine import PLAIN, EnginePath, Switch
from benchmarks.device.plain import PlainLoop
from benchmarks.device.rig import Rig, add
from benchmarks.device.rows import FOOOCUS, UNGUIDED, UNLIKE_ROWS, Additions, difference, evaluations
from benchmarks.report import Cell, Table
from benchmarks.sdxl import Models, in_float32
from pipelines.unet.guide import Evaluate

EQUAL = 1e-3  # of the deviation: the largest difference of a switch that changes no picture
ALIKE, GUIDED, UNLIKE = "alike", "guided as Fooocus guides", "of every kind"
GUIDED_ROWS = (2, 8)


@dataclass(frozen=True)
class Call:
    """A UNet call: what its rows are, and how many."""

    side: int
    kind: str
    rows: int


def plain_calls(side: int, rows: Sequence[int]) -> list[Call]:
    """Calls without additions to their rows."""
    return [
        *(Call(side, ALIKE, each) for each in rows),
        *(Call(side, GUIDED, each) for each in rows if each in GUIDED_ROWS),
    ]


def unlike_calls(side: int) -> list[Call]:
    """The call with every kind of row."""
    return [Call(side, UNLIKE, UNLIKE_ROWS)]


class CallBench:
    """Measures calls of the evaluations' stage."""

    def __init__(self, rig: Rig) -> None:
        self.table = Table("UNet calls: the answers of each switch beside the plain path's, then their time")
        self._rig = rig
        self._additions = Additions.build(rig.models)
        self._answers: dict[Call, Sequence[Tensor]] = {}  # of the plain path

    def measure(self, switch: Switch, calls: Sequence[Call]) -> None:
        for call in calls:
            if switch.measures(call.rows):
                add(self.table, self._measure(switch, call))

    def measure_rounding(self) -> None:
        """How far the plain path is from float32: a measure for the differences of others."""
        exact = in_float32(self._rig.models)
        stage = EnginePath(exact, PLAIN, max(GUIDED_ROWS)).stage
        for call, answers in self._answers.items():
            if call.kind != UNLIKE and call.rows == min(GUIDED_ROWS):
                asks = [replace(ask, unet=exact.unet) for ask in self._asks(call, self._rig.models)]
                apart = difference(asks, answers, stage.run(asks).values)
                add(self.table, {"switch": "plain, beside float32", **_told(call), "difference": apart})

    def _measure(self, switch: Switch, call: Call) -> dict[str, Cell]:
        """The answers of one call of the stage first, then its time; on the plain path, of the bare UNet too."""
        rig, clock, path = self._rig, self._rig.clock, self._rig.path(switch)
        asks = self._asks(call, path.models)
        if rig.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        path.stage.run(asks)
        compiled = path.compiled()
        answers = path.stage.run(asks).values
        clock.wait()
        first_s = time.perf_counter() - began
        if switch is PLAIN:
            self._answers[call] = answers
        apart = difference(asks, answers, self._answers[call])
        ms = clock.ms(partial(path.stage.run, asks))
        row: dict[str, Cell] = {
            "switch": switch.name,
            **_told(call),
            "difference": apart,
            "equal": "yes" if apart <= EQUAL else "no",
            "ms": ms,
            "ms of the host": clock.host_ms(partial(path.stage.run, asks)),
            "ms a row": ms / call.rows,
            "floor / ms": rig.floor_s(call.side, call.rows) * 1e3 / ms,
            "first two calls s": first_s,
        }
        if switch is PLAIN and call.kind == ALIKE:
            row["bare UNet ms"] = clock.ms(PlainLoop(rig.models, call.side, call.rows, guided=False).call)
        if switch.compiled is not None:
            row["signatures compiled"] = compiled
        if rig.on_gpu:
            row["peak GiB"] = torch.cuda.max_memory_allocated() / 2**30
        return row

    def _asks(self, call: Call, models: Models) -> list[Evaluate]:
        if call.kind == UNLIKE:
            return self._additions.unlike(models, call.side)
        if call.kind == GUIDED:
            return evaluations(models, call.side, call.rows // 2, FOOOCUS)
        return evaluations(models, call.side, call.rows, UNGUIDED)


def _told(call: Call) -> dict[str, Cell]:
    return {"size": call.side, "rows": call.rows, "kind": call.kind}
