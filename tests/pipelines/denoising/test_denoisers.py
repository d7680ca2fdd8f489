"""Denoisers: each by its formula, and wrapped in one another."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from pipelines.denoising.denoisers import Denoiser, blended, consistent, evaluate, sample, swapped, watched
from pipelines.denoising.samplers import dpmpp_sde, euler, heun
from pipelines.denoising.schedules import lcm_table, sdxl_table
from pipelines.denoising.sigma_schedule import SigmaSchedule
from pipelines.engine.tasks import Advance, Ask, Routine, ask
from pipelines.unet.guide import Evaluate, Guide
from pipelines.weights.family import Family
from tests.pipelines.unet.calling import guide

SHAPE = (4, 8, 8)
RUN = SigmaSchedule(sdxl_table(), torch.tensor([14.6, 7.0, 3.0, 1.0, 0.3, 0.0]))


class Clean(Ask[Tensor]):
    """A fake evaluation."""

    def __init__(self, x: Tensor, sigma: float, whose: str = "") -> None:
        self.x, self.sigma, self.whose = x, sigma, whose


def normal(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def asking(whose: str = "") -> Denoiser:
    """Asks, as the UNet is asked, and changes nothing."""

    def denoiser(x: Tensor, sigma: float) -> Routine[Tensor]:
        return (yield from ask(Clean(x, sigma, whose)))

    return denoiser


def toy(asked: Clean) -> Tensor:
    return torch.tanh(asked.x / (1 + asked.sigma))


def drive(routine: Routine[Tensor], answer: Callable[[Any], Tensor] = toy) -> tuple[Tensor, list[Any]]:
    """The result of a routine, and all that it asked."""
    asked: list[Any] = []
    try:
        asked.append(next(routine))
        while True:
            last = asked[-1]
            asked.append(routine.send(None if isinstance(last, Advance) else answer(last)))
    except StopIteration as end:
        return end.value, asked


def called(denoiser: Denoiser, x: Tensor, sigma: float) -> tuple[Tensor, list[Any]]:
    return drive(denoiser(x, sigma))


def test_a_sampler_is_run_on_a_denoiser_to_its_end() -> None:
    x = normal(1) * 14.6
    found, asked = drive(sample(euler(x, RUN.sigmas), asking()))
    wanted = x
    for sigma, after in zip(RUN.sigmas.tolist(), RUN.sigmas.tolist()[1:], strict=False):
        clean = torch.tanh(wanted / (1 + sigma))
        wanted = wanted + (wanted - clean) / sigma * (after - sigma)
    assert torch.equal(found, wanted)
    assert [each.sigma for each in asked] == RUN.sigmas[:-1].tolist()


def test_an_evaluation_is_led_by_its_guide_at_the_timestep_of_its_level(pocket_family: Family) -> None:
    seen: list[tuple[Tensor, float, int]] = []

    class Noting(Guide):
        def evaluate(self, x: Tensor, sigma: float, timestep: int) -> Evaluate:
            seen.append((x, sigma, timestep))
            return super().evaluate(x, sigma, timestep)

    led = Noting(**vars(guide(pocket_family, 5, negative=True)))
    x, clean, table = normal(1), normal(2), lcm_table(sdxl_table())
    found, (asked,) = drive(evaluate(led, table)(x, 1.1139), lambda _: clean)
    assert found is clean
    assert isinstance(asked, Evaluate)
    assert asked.x is x
    assert [timestep for _, _, timestep in seen] == [379]  # as Fooocus' eight steps have it


@pytest.mark.parametrize("sigma", [14.6146, 1.1139, 0.4367])
def test_a_consistent_one_applies_the_boundary_condition_of_its_timestep(sigma: float) -> None:
    table, x = lcm_table(sdxl_table()), normal(1)
    found, _ = called(consistent(asking(), table), x, sigma)
    scaled = 10.0 * {14.6146: 999, 1.1139: 379, 0.4367: 139}[sigma]
    clean = torch.tanh(x / (1 + sigma))
    wanted = clean * scaled / (scaled**2 + 0.25) ** 0.5 + x * 0.25 / (scaled**2 + 0.25)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)


def repainting() -> tuple[Tensor, Tensor, Iterator[Tensor]]:
    """A mask, an original and noise."""
    mask = torch.zeros(1, 8, 8)
    mask[:, 2:6, 3:] = 1
    return mask, normal(11), iter([normal(12), normal(13)])


def test_a_blended_one_repaints_within_its_mask_and_keeps_the_original_outside() -> None:
    mask, original, fresh = repainting()
    x, sigma = normal(1) * 3, 3.0
    found, (asked,) = called(blended(asking(), mask, original, lambda: next(fresh)), x, sigma)
    shown = torch.where(mask == 1, x, original + sigma * normal(12))
    torch.testing.assert_close(asked.x, shown, atol=1e-6, rtol=0)
    torch.testing.assert_close(found, torch.where(mask == 1, torch.tanh(shown / (1 + sigma)), original))


def test_a_blended_one_takes_fresh_noise_for_each_evaluation() -> None:
    mask, original, fresh = repainting()
    denoiser = blended(asking(), mask, original, lambda: next(fresh))
    (one,), (other,) = (called(denoiser, normal(1), 3.0)[1] for _ in range(2))
    kept = (1 - mask).expand(SHAPE) == 1
    torch.testing.assert_close((other.x - one.x)[kept], 3.0 * (normal(13) - normal(12))[kept], atol=1e-5, rtol=0)
    assert torch.equal((other.x - one.x)[~kept], torch.zeros(int((~kept).sum())))


def test_a_run_that_is_blended_ends_with_the_original_outside_its_mask() -> None:
    mask, original, _ = repainting()
    seeds = iter(range(100, 200))
    denoiser = blended(asking(), mask, original, lambda: normal(next(seeds)))
    found, _ = drive(sample(euler(normal(1) * 14.6, RUN.sigmas), denoiser))
    kept = (1 - mask).expand(SHAPE) == 1
    torch.testing.assert_close(found[kept], original[kept], atol=1e-5, rtol=0)
    assert (found - original)[~kept].abs().mean() > 0.1


def test_a_swapped_one_uses_the_first_at_its_level_and_above() -> None:
    denoiser = swapped(asking("first"), asking("second"), at=float(RUN.sigmas[2]))
    used = [called(denoiser, normal(1), sigma)[1][0].whose for sigma in RUN.sigmas[:-1].tolist()]
    assert used == ["first", "first", "first", "second", "second"]
    nearly = float(torch.nextafter(RUN.sigmas[2], torch.tensor(0.0)))
    assert called(denoiser, normal(1), nearly)[1][0].whose == "second"


@pytest.mark.parametrize(
    ("sampler", "told"),
    [
        (euler, [1, 2, 3, 4, 5]),
        (heun, [1, 2, 2, 3, 3, 4, 4, 5, 5]),
        (lambda x, sigmas: dpmpp_sde(x, sigmas, lambda *_: torch.zeros(1)), [1, 1, 2, 2, 3, 3, 4, 4, 5]),
    ],
    ids=["euler", "heun", "dpmpp_sde"],
)
def test_a_watched_one_says_how_many_steps_have_begun(sampler: Callable[..., Any], told: list[int]) -> None:
    _, asked = drive(sample(sampler(normal(1), RUN.sigmas), watched(asking(), RUN)))
    assert [each.done for each in asked if isinstance(each, Advance)] == told
    assert [isinstance(each, Advance) for each in asked] == [False, True] * len(told)


def test_a_watched_one_shows_each_clean_latent() -> None:
    shown: list[Tensor] = []
    drive(sample(euler(normal(1), RUN.sigmas), watched(asking(), RUN, shown.append)))
    x = normal(1)
    assert torch.equal(shown[0], torch.tanh(x / (1 + RUN.sigmas[0])))
    assert len(shown) == 5


def test_all_of_them_compose() -> None:
    """An inpainting of two models in LCM's steps: each wrapper does its part, in the order of the wrapping."""
    table = lcm_table(sdxl_table())
    mask, original, fresh = repainting()
    shown: list[Tensor] = []
    inner = consistent(swapped(asking("base"), asking("refiner"), at=7.0), table)
    denoiser = watched(blended(inner, mask, original, lambda: next(fresh)), RUN, shown.append)
    x, sigma = normal(1) * 3, 3.0
    found, (asked, advance) = called(denoiser, x, sigma)
    seen = torch.where(mask == 1, x, original + sigma * normal(12))
    assert asked.whose == "refiner"
    torch.testing.assert_close(asked.x, seen, atol=1e-6, rtol=0)
    scaled = 10.0 * table.timestep(sigma)
    clean = torch.tanh(seen / (1 + sigma)) * scaled / (scaled**2 + 0.25) ** 0.5 + seen * 0.25 / (scaled**2 + 0.25)
    torch.testing.assert_close(found, torch.where(mask == 1, clean, original), atol=1e-6, rtol=0)
    assert advance.done == 3
    assert shown[0] is found
