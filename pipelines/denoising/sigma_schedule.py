"""The noise levels of a run: those that a spec names, whole or the part that a start picture leaves to do."""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from torch import Tensor

from pipelines.denoising.schedules import (
    SCHEDULES,
    NoiseTable,
    lcm_table,
    partial,
    sdxl_table,
    sgm_uniform,
    tail,
    without_lowest,
)

if TYPE_CHECKING:  # who runs a schedule needs no pydantic
    from pipelines.spec import Spec


@dataclass(frozen=True, eq=False)
class SigmaSchedule:
    """The noise levels of a run. table: what the model knows. sigmas: (steps + 1,), descending to 0."""

    table: NoiseTable
    sigmas: Tensor

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    @cached_property
    def _ascending(self) -> list[float]:
        return [-sigma for sigma in self.sigmas.tolist()]

    def begun(self, sigma: float) -> int:
        """How many steps begin at sigma or above."""
        return bisect_right(self._ascending, -sigma)

    @cached_property
    def first_deviation(self) -> float:
        """What the first noise is multiplied by: a run from the top level begins with unit data's total deviation."""
        first = float(self.sigmas[0])
        at_the_top = first >= self.table.sigma_max * (1 - 1e-5)
        return float((1 + first**2) ** 0.5) if at_the_top else first


def sigma_schedule(spec: "Spec", table: NoiseTable | None = None, strength: float = 1.0) -> SigmaSchedule:
    """The noise levels that a spec asks for. table: of the model that draws; None means SDXL's. strength: the share of
    the schedule that is run where the spec has no picture to begin from, as a hole says it (`Inputs.strength`)."""
    table = table or sdxl_table()
    strength = spec.beginning.strength if spec.beginning else strength
    if spec.schedule == "tail":
        return SigmaSchedule(table, tail(table, spec.steps, strength))
    if spec.schedule == "lcm":
        table = lcm_table(table)
    schedule = sgm_uniform if spec.schedule == "lcm" else SCHEDULES[spec.schedule]
    if spec.sampler in ("uni_pc", "uni_pc_bh2"):
        schedule = without_lowest(schedule)
    return SigmaSchedule(table, partial(schedule, table, spec.steps, strength))
