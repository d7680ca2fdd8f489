"""Runs: the noise levels and the sampler that a spec names."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.denoising import samplers
from pipelines.denoising.brownian import BrownianTree
from pipelines.denoising.samplers import Noise, Sampler
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
from pipelines.denoising.uni_pc import uni_pc
from pipelines.spec import Spec

TCD_KEPT = 0.7  # share of the next timestep that TCD jumps to: 1 - gamma, gamma 0.3 in Fooocus


@dataclass(frozen=True, eq=False)
class Run:
    """The noise levels of a run. table: what the model knows. sigmas: (steps + 1,), descending to 0."""

    table: NoiseTable
    sigmas: Tensor

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1


def run_of(spec: Spec) -> Run:
    """The noise levels that a spec asks for: the whole schedule, or the part that its start image leaves to do."""
    table = sdxl_table()
    strength = spec.start.strength if spec.start else 1.0
    if spec.schedule == "tail":
        return Run(table, tail(table, spec.steps, strength))
    if spec.schedule == "lcm":
        table = lcm_table(table)
    schedule = sgm_uniform if spec.schedule == "lcm" else SCHEDULES[spec.schedule]
    if spec.sampler in ("uni_pc", "uni_pc_bh2"):
        schedule = without_lowest(schedule)
    return Run(table, partial(schedule, table, spec.steps, strength))


def sampler_of(spec: Spec, x: Tensor, run: Run, noise: Noise, seed: int) -> Sampler:
    """The sampler that a spec names, at its first question.

    noise: of the samplers whose steps are independent of each other; those of stochastic differential equations read
    a Brownian path of `seed` instead.
    """
    match spec.sampler:
        case "euler":
            return samplers.euler(x, run.sigmas)
        case "euler_ancestral":
            return samplers.euler_ancestral(x, run.sigmas, noise)
        case "heun":
            return samplers.heun(x, run.sigmas)
        case "dpmpp_2m":
            return samplers.dpmpp_2m(x, run.sigmas)
        case "dpmpp_2m_sde":
            return samplers.dpmpp_2m_sde(x, run.sigmas, _path(seed, x, run))
        case "dpmpp_3m_sde":
            return samplers.dpmpp_3m_sde(x, run.sigmas, _path(seed, x, run))
        case "dpmpp_sde":
            return samplers.dpmpp_sde(x, run.sigmas, _path(seed, x, run))
        case "lcm":
            return samplers.lcm(x, run.sigmas, noise)
        case "tcd":
            return samplers.tcd(x, run.sigmas, noise, below=lambda after: _tcd_level(run.table, after))
        case "uni_pc":
            return uni_pc(x, run.sigmas, "bh1")
        case "uni_pc_bh2":
            return uni_pc(x, run.sigmas, "bh2")


def _path(seed: int, x: Tensor, run: Run) -> Noise:
    """Noise between the levels of a run, as its place on a Brownian path."""
    positive = run.sigmas[run.sigmas > 0].tolist()
    tree = BrownianTree(seed, tuple(x.shape), positive[-1], positive[0])
    return lambda sigma, after: tree(sigma, after).to(x.device)


def _tcd_level(table: NoiseTable, after: float) -> float:
    return float(sdxl_table().sigma(torch.tensor(math.floor(TCD_KEPT * table.timestep(after)))))
