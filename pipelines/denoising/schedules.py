"""Noise levels: SDXL's table of sigmas, and the schedules that pick from it (fooocus-facts 4.1 and 4.4)."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

BETA_FIRST, BETA_LAST, TRAINING_STEPS = 0.00085, 0.012, 1000
TIE = 1e-5  # in log-sigma; neighbours in the table are 5e-3 apart, float32 rounds at 1e-7
LCM_STRIDE = 20  # LCM was distilled on every twentieth timestep: 19, 39, ..., 999


@dataclass(frozen=True)
class NoiseTable:
    """sigma by training timestep, for each timestep that the model knows.

    timesteps: (n,) ascending, evenly spaced integers. sigmas: (n,) ascending float32.
    """

    timesteps: Tensor
    sigmas: Tensor

    @cached_property
    def _log_sigmas(self) -> Tensor:
        return self.sigmas.log()

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

    def timestep(self, sigma: float) -> int:
        """The table's timestep whose log-sigma is nearest; of two that tie, the lower."""
        distance = (self._log_sigmas - torch.tensor(sigma).log()).abs()
        return int(self.timesteps[distance <= distance.min() + TIE][0])


def sdxl_table() -> NoiseTable:
    """The 1,000 levels of SDXL: beta linear in its square root, summed in float64."""
    betas = torch.linspace(BETA_FIRST**0.5, BETA_LAST**0.5, TRAINING_STEPS, dtype=torch.float64) ** 2
    remaining = torch.cumprod(1 - betas, dim=0)
    sigmas = ((1 - remaining) / remaining).sqrt().float()
    return NoiseTable(torch.arange(TRAINING_STEPS), sigmas)


def lcm_table(table: NoiseTable) -> NoiseTable:
    """The 50 levels that LCM knows, at t = 19, 39, ..., 999."""
    kept = slice(LCM_STRIDE - 1, None, LCM_STRIDE)
    return NoiseTable(table.timesteps[kept], table.sigmas[kept])


def sgm_uniform(table: NoiseTable, steps: int) -> Tensor:
    """Timesteps evenly spaced from the last to the first, the first left out; (steps + 1,) sigmas, ending in 0."""
    return _spread(table, float(table.timesteps[-1]), float(table.timesteps[0]), steps)


def tail(table: NoiseTable, steps: int, strength: float) -> Tensor:
    """`steps` levels spread evenly from timestep round(999 x strength) down; (steps + 1,) sigmas, ending in 0.

    The rule of the fast image-to-image endpoint: `strength` in (0, 1] chooses where the run starts, and every step is
    spent on the part that remains.
    """
    last = float(table.timesteps[-1])
    return _spread(table, float(max(1, round(last * strength))), float(table.timesteps[0]), steps)


def _spread(table: NoiseTable, start: float, end: float, steps: int) -> Tensor:
    timesteps = torch.linspace(start, end, steps + 1, dtype=torch.float64)[:-1]
    return torch.cat([table.sigma(timesteps), torch.zeros(1)])
