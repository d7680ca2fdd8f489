"""How well a UNet in training draws what held-out captions say, as the oracle reads it."""

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.pocket.latents import FACTOR, all_latents, come_so_far, pixels_of
from benchmarks.pocket.reader import Reader
from benchmarks.pocket.world.drawing import draw
from benchmarks.pocket.world.exam import accuracy, held_out
from pipelines.denoising.samplers import Sampler, dpmpp_2m
from pipelines.denoising.schedules import karras, sdxl_table

SCALE = 4.0  # of guidance
AT = 850  # the timestep, sigma 7, at which it is asked whether captions are heard


def predict(
    unet: Any,
    x: Tensor,
    timesteps: Tensor,
    context: Tensor,
    pooled: Tensor,
    emphasis: Tensor | None = None,
    **more: Any,
) -> Tensor:
    """eps (n, 4, h, w) for x (n, 4, h, w), which is scaled to unit variance; pictures are as large as x says.

    emphasis: (n,) multiples of its size that the original size is told to be. more: what else the UNet is given.
    """
    return answer(unet, x, timesteps, context, pooled, size_ids(x, emphasis), **more)


def answer(
    unet: Any, x: Tensor, timesteps: Tensor, context: Tensor, pooled: Tensor, sizes: Tensor, **more: Any
) -> Tensor:
    """As `predict`. sizes: of `size_ids`."""
    added = {"text_embeds": pooled, "time_ids": sizes}
    eps: Tensor = unet(x, timesteps, context, added_cond_kwargs=added, return_dict=False, **more)[0]
    return eps


def size_ids(x: Tensor, emphasis: Tensor | None = None) -> Tensor:
    """(n, 6): original size, what is cropped, target size."""
    height, width = (side * FACTOR for side in x.shape[-2:])
    sizes = torch.tensor([height, width, 0, 0, height, width], device=x.device).float().repeat(len(x), 1)
    if emphasis is not None:
        sizes[:, :2] *= emphasis[:, None]
    return sizes


@torch.no_grad()
def draw_latents(
    unet: Any,
    reader: Reader,
    said: list[str],
    side: int,
    steps: int,
    tokens: int,
    before: Callable[[Tensor, float], Tensor] = lambda x, sigma: x,
    after: Callable[[Tensor], Tensor] = lambda clean: clean,
) -> Tensor:
    """(n, 4, side / 8, side / 8) latents of the captions' pictures, by DPM++ 2M on Karras' levels.

    unet: as `predict` calls it, with the rows without a caption first. before, after: what becomes of what it sees at a
    level and of the clean latents that it answers.
    """
    device = reader.encoders[0].device
    without, told = (reader(each, tokens) for each in ([""] * len(said), said))
    both = [torch.cat(pair) for pair in zip(without, told, strict=True)]
    table = sdxl_table()
    sigmas = karras(table, steps)
    noise = torch.randn(len(said), 4, side // FACTOR, side // FACTOR, generator=torch.Generator().manual_seed(1))

    def guided(x: Tensor, sigma: float) -> Tensor:
        x = before(x, sigma)
        at = torch.full((2 * len(said),), table.timestep(sigma), device=device)
        eps = predict(unet, torch.cat([x, x]) / (1 + sigma**2) ** 0.5, at, both[0], both[1])
        unled, led = eps.chunk(2)
        return after(x - sigma * (unled + SCALE * (led - unled)))

    return run(dpmpp_2m(noise.to(device) * float(1 + sigmas[0] ** 2) ** 0.5, sigmas), guided)


def run(sampler: Sampler, answer: Callable[[Tensor, float], Tensor]) -> Tensor:
    """Where a sampler comes to. answer: the clean latent at x and sigma."""
    try:
        x, sigma = next(sampler)
        while True:
            x, sigma = sampler.send(answer(x, sigma))
    except StopIteration as end:
        drawn: Tensor = end.value
    return drawn


def score(unet: Any, reader: Reader, side: int, count: int, steps: int, tokens: int) -> dict[str, float]:
    """The accuracy of held-out captions, and how much a caption helps under strong noise."""
    scenes, said = held_out(count)
    drawn = draw_latents(unet, reader, said, side, steps, tokens)
    right = accuracy(scenes, list(pixels_of(drawn)))
    return right | {"heard": heard(unet, reader, side, count, tokens)}


@torch.no_grad()
def heard(unet: Any, reader: Reader, side: int, count: int, tokens: int) -> float:
    """By how much another picture's caption makes the guess of the clean latent worse: 1 is not at all."""
    device = reader.encoders[0].device
    scenes, said = held_out(count)
    pictures = [draw(scene, side, side, random.Random(at), smooth=1) for at, scene in enumerate(scenes)]
    clean = all_latents(pictures).to(device)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(2)).to(device)
    sigma = float(sdxl_table().sigmas[AT])
    x = come_so_far(sigma) * clean + sigma * noise
    at = torch.full((count,), AT, device=device)
    errors = [
        float(
            (predict(unet, x / (1 + sigma**2) ** 0.5, at, *reader(texts, tokens)) - (x - clean) / sigma).square().mean()
        )
        for texts in (said, [*said[1:], said[0]])
    ]
    return errors[1] / errors[0]
