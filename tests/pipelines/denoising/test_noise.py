"""The noise of a run: all of it is drawn before, as the sampler reads it."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from pipelines.denoising import samplers
from pipelines.denoising.brownian import BrownianTree
from pipelines.denoising.noise import SAMPLERS, DrawnNoise, draw_noise
from pipelines.denoising.samplers import Noise, Sampler
from pipelines.denoising.schedules import sdxl_table
from pipelines.denoising.sigma_schedule import SigmaSchedule, sigma_schedule
from pipelines.device import PlainDevice
from pipelines.spec import MAX_SEED, SamplerName, Spec, Start
from tests.pipelines.denoising.driving import drive

SHAPE = (4, 8, 8)
NAMES = get_args(SamplerName)
PATHS = ("dpmpp_2m_sde", "dpmpp_3m_sde", "dpmpp_sde")

# what one generator, which has given the first noise, goes on to give, reading by reading
LAZY: dict[str, Callable[[Tensor, SigmaSchedule, Noise], Sampler]] = {
    "euler_ancestral": lambda x, run, noise: samplers.euler_ancestral(x, run.sigmas, noise),
    "lcm": lambda x, run, noise: samplers.lcm(x, run.sigmas, noise),
    "dpmpp_2m_sde": lambda x, run, noise: samplers.dpmpp_2m_sde(x, run.sigmas, noise),
    "dpmpp_3m_sde": lambda x, run, noise: samplers.dpmpp_3m_sde(x, run.sigmas, noise),
    "dpmpp_sde": lambda x, run, noise: samplers.dpmpp_sde(x, run.sigmas, noise),
}


def run_of(sampler: str, schedule: str = "karras", steps: int = 6, **given: Any) -> SigmaSchedule:
    return sigma_schedule(Spec(seeds=(1,), steps=steps, sampler=sampler, schedule=schedule, **given))  # type: ignore[arg-type]


def toy(x: Tensor, sigma: float) -> Tensor:
    """A clean latent that depends on x and sigma in no simple way."""
    return torch.tanh(x / (1 + sigma)) + 0.1 * torch.sin(3 * x / (1 + sigma**2) ** 0.5)


def normals(seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randn((1, *SHAPE), generator=generator)[0]


def sampled(sampler: SamplerName, run: SigmaSchedule, drawn: DrawnNoise, noise: Noise) -> Tensor:
    return drive(SAMPLERS[sampler].make(drawn.first * run.first_deviation, run, noise), toy)[0]


@pytest.mark.parametrize(
    "run", [{}, {"pictures": (Start(source="", strength=0.5),)}, {"steps": 1}, {"schedule": "lcm"}], ids=str
)
@pytest.mark.parametrize("sampler", NAMES)
def test_every_sampler_reads_all_that_is_drawn_for_it_and_no_more(sampler: SamplerName, run: dict[str, Any]) -> None:
    schedule = run_of(sampler, **run)
    drawn = draw_noise(sampler, schedule, SHAPE, 7)
    read: list[Tensor] = []
    replay = drawn.replay()

    def noted(sigma: float, after: float) -> Tensor:
        read.append(replay(sigma, after))
        return read[-1]

    assert sampled(sampler, schedule, drawn, noted).isfinite().all()
    assert list(map(id, read)) == list(map(id, drawn.readings))
    with pytest.raises(StopIteration):
        replay(1.0, 0.5)


@pytest.mark.parametrize("steps", [1, 2, 9])
@pytest.mark.parametrize("sampler", LAZY)
def test_what_is_drawn_is_what_a_run_that_reads_as_it_goes_would_get(sampler: SamplerName, steps: int) -> None:
    """The first noise and then the readings from one generator of the seed, or from the path of the seed."""
    run = run_of(sampler, steps=steps)
    drawing = normals(7)
    first = next(drawing)
    positive = [sigma for sigma in run.sigmas.tolist() if sigma > 0]
    tree = BrownianTree(7, SHAPE, positive[-1], positive[0])
    lazy: Noise = tree if sampler in PATHS else lambda sigma, after: next(drawing)
    wanted, _ = drive(LAZY[sampler](first * run.first_deviation, run, lazy), toy)
    drawn = draw_noise(sampler, run, SHAPE, 7)
    assert torch.equal(drawn.first, first)
    assert torch.equal(sampled(sampler, run, drawn, drawn.replay()), wanted)


def test_a_brownian_path_is_read_between_the_levels_that_are_passed() -> None:
    run = run_of("dpmpp_2m_sde", steps=5)
    levels = run.sigmas[:-1].tolist()
    tree = BrownianTree(3, SHAPE, levels[-1], levels[0])
    wanted = [tree(sigma, after) for sigma, after in pairwise(levels)]
    readings = draw_noise("dpmpp_2m_sde", run, SHAPE, 3).readings
    assert torch.equal(torch.stack([*readings]), torch.stack(wanted))


def test_noise_can_be_replayed_from_its_beginning() -> None:
    """By a job that is begun again."""
    run = run_of("euler_ancestral")
    drawn = draw_noise("euler_ancestral", run, SHAPE, 7)
    one, again = (sampled("euler_ancestral", run, drawn, drawn.replay()) for _ in range(2))
    assert torch.equal(one, again)


def test_noise_is_the_same_on_its_device() -> None:
    drawn = draw_noise("lcm", run_of("lcm", "lcm"), SHAPE, 7)
    there = drawn.on(PlainDevice(torch.device("cpu")))

    def all_of(noise: DrawnNoise) -> Tensor:
        return torch.stack([noise.first, *noise.readings])

    assert torch.equal(all_of(there), all_of(drawn))


def test_tcd_jumps_to_seven_tenths_of_the_next_timestep() -> None:
    run = run_of("tcd", "lcm", 4)
    reached: list[float] = []

    def clean(x: Tensor, sigma: float) -> Tensor:
        reached.append(float(x))
        return x * 0

    # without noise, and with a clean latent of 0, x shrinks to the share of sigma that the jump leaves
    drive(SAMPLERS["tcd"].make(torch.ones(1), run, lambda *_: torch.zeros(1)), clean)
    timesteps = [run.table.timestep(sigma) for sigma in run.sigmas[:-1].tolist()]
    levels = sdxl_table().sigmas[[int(0.7 * timestep) for timestep in timesteps[1:]]]
    wanted = torch.cumprod(levels / run.sigmas[:-2], dim=0)
    assert reached[1:] == pytest.approx(wanted.tolist())


@pytest.mark.parametrize("sampler", PATHS)
def test_the_path_of_an_sde_belongs_to_its_seed(sampler: SamplerName) -> None:
    run = run_of(sampler)

    def readings(seed: int) -> Sequence[Tensor]:
        return draw_noise(sampler, run, SHAPE, seed).readings

    def ended(seed: int) -> Tensor:
        left = iter(readings(seed))
        sampler_ = SAMPLERS[sampler].make(torch.ones(SHAPE), run, lambda *_: next(left))
        return drive(sampler_, lambda x, sigma: x / (1 + sigma))[0]

    assert torch.equal(ended(1), ended(1))
    assert not torch.allclose(ended(1), ended(2), atol=1e-3)


@pytest.mark.parametrize("sampler", NAMES)
def test_around_a_hole_there_is_fresh_noise_for_each_evaluation_from_a_seed_of_its_own(sampler: SamplerName) -> None:
    """fooocus-facts 6.8: also of second evaluations in a step, and whatever the sampler reads beside it."""
    run = run_of(sampler)
    drawn = draw_noise(sampler, run, SHAPE, 7, around=True)
    plain = draw_noise(sampler, run, SHAPE, 7)
    assert plain.around == ()
    assert torch.equal(drawn.first, plain.first)
    assert len(drawn.readings) == len(plain.readings)
    first = drawn.first * run.first_deviation
    asked = len(drive(SAMPLERS[sampler].make(first, run, drawn.replay()), toy)[1])
    assert len(drawn.around) == asked
    wanted = normals(8)
    read = drawn.on(PlainDevice(torch.device("cpu"))).replay_around()
    for _ in range(asked):
        assert torch.equal(read(), next(wanted))


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m_sde"])
def test_the_greatest_seed_draws_a_noise_of_its_own(sampler: SamplerName) -> None:
    run = run_of(sampler)
    greatest, before = (draw_noise(sampler, run, SHAPE, seed, around=True).first for seed in (MAX_SEED, MAX_SEED - 1))
    assert not torch.equal(greatest, before)


def test_the_seed_around_a_hole_begins_anew_behind_the_last() -> None:
    run = run_of("euler")
    last = draw_noise("euler", run, SHAPE, 2**63 - 2, around=True)
    assert torch.equal(last.around[0], next(normals(0)))
