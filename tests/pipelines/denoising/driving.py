"""Runs a sampler against a denoiser whose answers are known."""

from collections.abc import Callable

from torch import Tensor

from pipelines.denoising.samplers import Sampler

Denoise = Callable[[Tensor, float], Tensor]


def drive(sampler: Sampler, denoiser: Denoise) -> tuple[Tensor, list[float]]:
    """The sampler's result and the sigmas that it asked at."""
    asked = []
    try:
        x, sigma = next(sampler)
        while True:
            asked.append(sigma)
            x, sigma = sampler.send(denoiser(x, sigma))
    except StopIteration as end:
        return end.value, asked
