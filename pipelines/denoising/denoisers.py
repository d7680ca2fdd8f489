"""Denoisers: routines from x at sigma to the clean latent. They wrap one another; a sampler is run on the outermost."""

from collections.abc import Callable

from torch import Tensor

from pipelines.denoising.samplers import Sampler
from pipelines.denoising.schedules import NoiseTable
from pipelines.denoising.sigma_schedule import SigmaSchedule
from pipelines.engine.tasks import Advance, Routine, ask
from pipelines.unet.guidance import consistency
from pipelines.unet.guide import Guide

Denoiser = Callable[[Tensor, float], Routine[Tensor]]
"""x: (channels, h, w) float32. The answer has x's shape."""
Watch = Callable[[Tensor], None]
"""Is shown what each evaluation of a run comes to, (channels, h, w) float32."""


def sample(sampler: Sampler, denoiser: Denoiser) -> Routine[Tensor]:
    """Run a sampler to its end. Returns the latent that it ends with."""
    try:
        x, sigma = next(sampler)
        while True:
            x, sigma = sampler.send((yield from denoiser(x, sigma)))
    except StopIteration as end:
        latent: Tensor = end.value
        return latent


def evaluate(guide: Guide, table: NoiseTable) -> Denoiser:
    """Ask the UNet, led by a guide."""

    def denoiser(x: Tensor, sigma: float) -> Routine[Tensor]:
        return (yield from ask(guide.evaluate(x, sigma, (guide.table or table).timestep(sigma))))

    return denoiser


def consistent(inner: Denoiser, table: NoiseTable) -> Denoiser:
    """Apply LCM's boundary condition."""

    def denoiser(x: Tensor, sigma: float) -> Routine[Tensor]:
        return consistency((yield from inner(x, sigma)), x, table.timestep(sigma))

    return denoiser


def blended(inner: Denoiser, mask: Tensor, original: Tensor, noise: Callable[[], Tensor]) -> Denoiser:
    """Repaint where the mask is 1, and keep the original elsewhere before and after evaluations (fooocus-facts 6.8).

    mask: (1, h, w) of 0 and 1. original: a scaled latent. noise: fresh standard normal noise of its shape.
    """

    def denoiser(x: Tensor, sigma: float) -> Routine[Tensor]:
        x = mask * x + (1 - mask) * (original + sigma * noise())
        clean = yield from inner(x, sigma)
        return mask * clean + (1 - mask) * original

    return denoiser


def swapped(first: Denoiser, second: Denoiser, at: float) -> Denoiser:
    """The first denoiser down to sigma `at`, and the second one below it (fooocus-facts 4.6)."""

    def denoiser(x: Tensor, sigma: float) -> Routine[Tensor]:
        return (yield from (first if sigma >= at else second)(x, sigma))

    return denoiser


def noted(inner: Denoiser, note: Watch) -> Denoiser:
    """Show `note` what each evaluation takes for noise, of unit deviation."""

    def denoiser(x: Tensor, sigma: float) -> Routine[Tensor]:
        clean = yield from inner(x, sigma)
        note((x - clean) / sigma)
        return clean

    return denoiser


def watched(inner: Denoiser, run: SigmaSchedule, watch: Watch | None = None, before: int = 0) -> Denoiser:
    """Say how many steps have begun, of a run and of others `before` it, and show `watch` each clean latent."""
    begun = 0

    def denoiser(x: Tensor, sigma: float) -> Routine[Tensor]:
        nonlocal begun
        clean = yield from inner(x, sigma)
        begun = max(begun, run.begun(sigma))
        yield from ask(Advance(before + begun))
        if watch is not None:
            watch(clean)
        return clean

    return denoiser
