"""Noise levels: SDXL's table of sigmas, and the schedules that pick from it (fooocus-facts 4.1 and 4.4).

A schedule is a function of a table and a number of steps; it gives (steps + 1,) descending float32 sigmas, the last 0.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import torch
from torch import Tensor

BETA_FIRST, BETA_LAST, TRAINING_STEPS = 0.00085, 0.012, 1000
LEAST_REMAINING = 2.0**-24  # for 0 at the last timestep, as diffusers has it: there sigma is 4096, not infinite
TIE = 1e-5  # in log-sigma; neighbours in the table are 5e-3 apart, float32 rounds at 1e-7
LCM_STRIDE = 20  # LCM was distilled on every twentieth timestep: 19, 39, ..., 999
WHOLE = 0.9999  # a denoise above this is the whole schedule
RHO = 7.0  # of Karras' schedule
TURBO_STRIDE, TURBO_LEVELS = 100, 10  # SDXL Turbo was distilled on 999, 899, ..., 99
# Sabour et al. 2024, for SDXL
ALIGNED = (
    *(14.6146412293, 6.3184485287, 3.7681790315, 2.1811480769, 1.3405244945, 0.8620721141),
    *(0.5550693289, 0.3798540708, 0.2332364134, 0.1114188177, 0.0291671582),
)

Schedule = Callable[["NoiseTable", int], Tensor]


@dataclass(frozen=True)
class NoiseTable:
    """sigma by training timestep, for each timestep that the model knows.

    timesteps: (n,) ascending, evenly spaced integers. sigmas: (n,) ascending float32. thinned: the table of all
    training timesteps, where this one has lost some of them.
    """

    timesteps: Tensor
    sigmas: Tensor
    thinned: "NoiseTable | None" = None

    @property
    def whole(self) -> "NoiseTable":
        """The table of all training timesteps."""
        return self.thinned or self

    @cached_property
    def _log_sigmas(self) -> Tensor:
        return self.sigmas.log()

    @property
    def span(self) -> tuple[float, float]:
        """The last and the first timestep."""
        return float(self.timesteps[-1]), float(self.timesteps[0])

    @property
    def sigma_max(self) -> float:
        return float(self.sigmas[-1])

    @property
    def sigma_min(self) -> float:
        return float(self.sigmas[0])

    def sigma(self, timestep: Tensor) -> Tensor:
        """Sigma at (possibly fractional) timesteps, log-linear between the table's entries."""
        first, stride = float(self.timesteps[0]), float(self.timesteps[1] - self.timesteps[0])
        place = ((timestep.float() - first) / stride).clamp(0, len(self.sigmas) - 1)
        below = place.floor().long()
        above = place.ceil().long()
        share = place - below
        return ((1 - share) * self._log_sigmas[below] + share * self._log_sigmas[above]).exp()

    @cached_property
    def _listed(self) -> tuple[list[int], list[float]]:
        """Timesteps and log-sigmas, for the host."""
        return self.timesteps.tolist(), self._log_sigmas.tolist()

    def timestep(self, sigma: float) -> int:
        """The table's timestep whose log-sigma is nearest; of two that tie, the lower."""
        timesteps, levels = self._listed
        level = math.log(sigma) if sigma > 0 else -math.inf
        above = min(max(bisect_left(levels, level), 1), len(levels) - 1)
        nearer_below = level - levels[above - 1] <= levels[above] - level + TIE
        return timesteps[above - 1 if nearer_below else above]


def sdxl_table(zero_terminal_snr: bool = False) -> NoiseTable:
    """The 1,000 levels of SDXL: beta linear in its square root, summed in float64.

    zero_terminal_snr: as models know them that were trained to begin from noise alone (Lin et al. 2023, algorithm 1).
    """
    betas = torch.linspace(BETA_FIRST**0.5, BETA_LAST**0.5, TRAINING_STEPS, dtype=torch.float64) ** 2
    remaining = torch.cumprod(1 - betas, dim=0)
    if zero_terminal_snr:
        signal = remaining.sqrt()
        remaining = ((signal - signal[-1]) * (signal[0] / (signal[0] - signal[-1]))) ** 2
        remaining[-1] = LEAST_REMAINING
    sigmas = ((1 - remaining) / remaining).sqrt().float()
    return NoiseTable(torch.arange(TRAINING_STEPS), sigmas)


def lcm_table(table: NoiseTable) -> NoiseTable:
    """The 50 levels that LCM knows, at t = 19, 39, ..., 999."""
    kept = slice(LCM_STRIDE - 1, None, LCM_STRIDE)
    return NoiseTable(table.timesteps[kept], table.sigmas[kept], table)


def karras(table: NoiseTable, steps: int) -> Tensor:
    """Evenly spaced in sigma**(1/7) over the whole table (Karras et al. 2022, equation 5)."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    first, last = table.sigma_max ** (1 / RHO), table.sigma_min ** (1 / RHO)
    return _ended((first + ramp * (last - first)) ** RHO)


def exponential(table: NoiseTable, steps: int) -> Tensor:
    """Evenly spaced in log-sigma over the whole table."""
    first, last = math.log(table.sigma_max), math.log(table.sigma_min)
    return _ended(torch.linspace(first, last, steps, dtype=torch.float64).exp())


def normal(table: NoiseTable, steps: int) -> Tensor:
    """Timesteps evenly spaced from the last to the first, both included."""
    return _ended(table.sigma(torch.linspace(*table.span, steps, dtype=torch.float64)))


def sgm_uniform(table: NoiseTable, steps: int) -> Tensor:
    """Timesteps evenly spaced from the last to the first, the first left out."""
    return _ended(table.sigma(torch.linspace(*table.span, steps + 1, dtype=torch.float64)[:-1]))


def simple(table: NoiseTable, steps: int) -> Tensor:
    """Entries of the table at even distances from its end. More steps than entries repeat some."""
    levels = len(table.sigmas)
    return _ended(table.sigmas[[-(1 + int(at * levels / steps)) for at in range(steps)]])


def ddim_uniform(table: NoiseTable, steps: int) -> Tensor:
    """Every (levels // steps)th entry of the table from its second on; where that does not divide, one step more."""
    return _ended(table.sigmas[1 :: max(len(table.sigmas) // steps, 1)].flip(0))


def turbo(table: NoiseTable, steps: int) -> Tensor:
    """The first of SDXL Turbo's ten levels, t = 999, 899, ... Raises ValueError for more than ten steps."""
    if steps > TURBO_LEVELS:
        raise ValueError(f"the turbo schedule has {TURBO_LEVELS} levels, not {steps}")
    return _ended(table.sigma(table.span[0] - TURBO_STRIDE * torch.arange(steps)))


def align_your_steps(table: NoiseTable, steps: int) -> Tensor:
    """The published levels for SDXL, resampled evenly in their index and log-linearly between them."""
    del table  # the levels are SDXL's own
    levels = torch.tensor(ALIGNED, dtype=torch.float64).log()
    place = torch.linspace(0, len(levels) - 1, steps + 1, dtype=torch.float64)[:-1]
    below = place.floor().long()
    return _ended(torch.lerp(levels[below], levels[below + 1], place - below).exp())


SCHEDULES: Mapping[str, Schedule] = MappingProxyType(
    {
        "karras": karras,
        "exponential": exponential,
        "normal": normal,
        "simple": simple,
        "sgm_uniform": sgm_uniform,
        "ddim_uniform": ddim_uniform,
        "turbo": turbo,
        "align_your_steps": align_your_steps,
    }
)


def without_lowest(schedule: Schedule) -> Schedule:
    """One step more, and its lowest positive level left out: what solvers get that are unstable at the end."""

    def shortened(table: NoiseTable, steps: int) -> Tensor:
        sigmas = schedule(table, steps + 1)
        return torch.cat([sigmas[:-2], sigmas[-1:]])

    return shortened


def partial(schedule: Schedule, table: NoiseTable, steps: int, denoise: float) -> Tensor:
    """Fooocus' rule for a run that begins from a picture: the last `steps` of int(steps / denoise) steps.

    denoise: the share of the schedule that is run, in (0, 1]; above 0.9999 it is the whole one.
    """
    if denoise > WHOLE:
        return schedule(table, steps)
    return schedule(table, int(steps / denoise))[-(steps + 1) :]


def tail(table: NoiseTable, steps: int, strength: float) -> Tensor:
    """`steps` levels spread evenly from timestep round(999 x strength) down.

    The rule of the fast image-to-image endpoint: `strength` in (0, 1] chooses where the run starts, and every step is
    spent on the part that remains.
    """
    last, first = table.span
    return _ended(table.sigma(torch.linspace(max(1, round(last * strength)), first, steps + 1)[:-1]))


def _ended(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas.float(), torch.zeros(1)])
