"""The noise of a run: which sampler reads which, and all of it drawn before the run begins."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from pipelines.denoising import samplers
from pipelines.denoising.brownian import BrownianTree
from pipelines.denoising.samplers import Noise, Sampler
from pipelines.denoising.schedules import NoiseTable
from pipelines.denoising.sigma_schedule import SigmaSchedule
from pipelines.denoising.uni_pc import uni_pc
from pipelines.device import Device

if TYPE_CHECKING:  # who draws noise needs no pydantic
    from pipelines.spec import SamplerName

TCD_KEPT = 0.7  # share of the next timestep that TCD jumps to: 1 - gamma, gamma 0.3 in Fooocus


@dataclass(frozen=True)
class SamplerKind:
    """How a sampler is made, at its first question.

    noise: none that it reads, readings independent of each other, or such as lie on a Brownian path.
    """

    make: Callable[[Tensor, SigmaSchedule, Noise], Sampler]
    noise: Literal["none", "independent", "path"] = "none"


SAMPLERS: Mapping["SamplerName", SamplerKind] = MappingProxyType(
    {
        "euler": SamplerKind(lambda x, run, _: samplers.euler(x, run.sigmas)),
        "euler_ancestral": SamplerKind(
            lambda x, run, noise: samplers.euler_ancestral(x, run.sigmas, noise), "independent"
        ),
        "heun": SamplerKind(lambda x, run, _: samplers.heun(x, run.sigmas)),
        "dpmpp_2m": SamplerKind(lambda x, run, _: samplers.dpmpp_2m(x, run.sigmas)),
        "dpmpp_2m_sde": SamplerKind(lambda x, run, noise: samplers.dpmpp_2m_sde(x, run.sigmas, noise), "path"),
        "dpmpp_3m_sde": SamplerKind(lambda x, run, noise: samplers.dpmpp_3m_sde(x, run.sigmas, noise), "path"),
        "dpmpp_sde": SamplerKind(lambda x, run, noise: samplers.dpmpp_sde(x, run.sigmas, noise), "path"),
        "lcm": SamplerKind(lambda x, run, noise: samplers.lcm(x, run.sigmas, noise), "independent"),
        "tcd": SamplerKind(
            lambda x, run, noise: samplers.tcd(x, run.sigmas, noise, below=_tcd_level(run.table)), "independent"
        ),
        "uni_pc": SamplerKind(lambda x, run, _: uni_pc(x, run.sigmas, "bh1")),
        "uni_pc_bh2": SamplerKind(lambda x, run, _: uni_pc(x, run.sigmas, "bh2")),
    }
)


@dataclass(frozen=True, eq=False)
class DrawnNoise:
    """All noise of one image, (channels, h, w) each. first: what it begins from. readings: in the sampler's order.
    around: what is laid over the picture around a hole, an evaluation each; none where there is no hole.
    """

    first: Tensor
    readings: Sequence[Tensor]
    around: Sequence[Tensor] = ()

    def on(self, device: Device) -> "DrawnNoise":
        """The same on the device, copied at once."""
        first, *others = device.upload(torch.stack([self.first, *self.readings, *self.around]))
        count = len(self.readings)
        return DrawnNoise(first, others[:count], others[count:])

    def replay(self) -> Noise:
        """The noise as the sampler reads it, from its beginning."""
        left: Iterator[Tensor] = iter(self.readings)
        return lambda sigma, after: next(left)

    def replay_around(self) -> Callable[[], Tensor]:
        """The noise around a hole, evaluation by evaluation."""
        left: Iterator[Tensor] = iter(self.around)
        return lambda: next(left)


def draw_noise(
    sampler: "SamplerName", run: SigmaSchedule, shape: tuple[int, ...], seed: int, *, around: bool = False
) -> DrawnNoise:
    """Draw standard normal noise on the CPU, so that a seed means the same everywhere. around: for a hole too."""
    generator = torch.Generator().manual_seed(seed)
    first, levels = _draw(generator, shape), read_levels(sampler, run)
    if SAMPLERS[sampler].noise == "path" and levels:
        positive = [sigma for sigma in run.sigmas.tolist() if sigma > 0]
        tree = BrownianTree(seed, shape, positive[-1], positive[0])
        readings = [tree(sigma, after) for sigma, after in levels]
    else:
        readings = [_draw(generator, shape) for _ in levels]
    return DrawnNoise(first, readings, draw_around(sampler, run, shape, seed) if around else ())


def draw_around(sampler: "SamplerName", run: SigmaSchedule, shape: tuple[int, ...], seed: int) -> Sequence[Tensor]:
    """Draw the noise around a hole: fresh for each evaluation, from a seed of its own (fooocus-facts 6.8)."""
    generator = torch.Generator().manual_seed((seed + 1) % (2**63 - 1))
    _, evaluations = _rehearse(sampler, run)
    return [_draw(generator, shape) for _ in range(evaluations)]


def left_after(noise: DrawnNoise, sampler: "SamplerName", run: SigmaSchedule) -> DrawnNoise:
    """What a run leaves of the noise of a longer one of which it is the beginning."""
    _, evaluations = _rehearse(sampler, run)
    return DrawnNoise(noise.first, noise.readings[len(read_levels(sampler, run)) :], noise.around[evaluations:])


def read_levels(sampler: "SamplerName", run: SigmaSchedule) -> Sequence[tuple[float, float]]:
    """The ways between levels for which a sampler reads noise, in its order: found by running it on nothing."""
    return () if SAMPLERS[sampler].noise == "none" else _rehearse(sampler, run)[0]


def _rehearse(sampler: "SamplerName", run: SigmaSchedule) -> tuple[Sequence[tuple[float, float]], int]:
    """Run a sampler on nothing: the ways between levels for which it reads noise, and how often it evaluates."""
    read: list[tuple[float, float]] = []
    nothing = torch.zeros(1)

    def note(sigma: float, after: float) -> Tensor:
        read.append((sigma, after))
        return nothing

    rehearsed, evaluations = SAMPLERS[sampler].make(nothing, run, note), 0
    try:
        next(rehearsed)
        while True:
            evaluations += 1
            rehearsed.send(nothing)
    except StopIteration:
        return read, evaluations


def _draw(generator: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    return torch.randn((1, *shape), generator=generator)[0]


def _tcd_level(table: NoiseTable) -> Callable[[float], float]:
    """The level that TCD jumps to, by the one that it noises up to."""
    return lambda after: float(table.whole.sigma(torch.tensor(math.floor(TCD_KEPT * table.timestep(after)))))
