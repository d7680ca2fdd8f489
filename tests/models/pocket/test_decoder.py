"""The VAE's decoder: outlines are sharp, all else is as smooth as it was, and that in any part of a picture."""

import random

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from benchmarks.pocket.world.drawing import draw
from benchmarks.pocket.world.scenes import any_scene
from models.pocket import shapes
from models.pocket.decoder import GRAIN
from models.pocket.vae_weights import AMPLITUDE, construct_vae

DARK, BRIGHT = -0.8, 0.7
REACH = 32  # pixels that a decoded one may depend on to either side


BORDER = 2  # outermost pixels, where outlines may be softer


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    return made()


def made() -> AutoencoderKL:
    """With weights as a checkpoint holds them, rounded to float16."""
    vae: AutoencoderKL = AutoencoderKL.from_config(dict(shapes.VAE)).requires_grad_(False)
    construct_vae(vae)
    for parameter in vae.parameters():
        parameter.copy_(parameter.half())
    return vae


def encoded(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    latents: Tensor = vae.encode(pictures).latent_dist.mode()
    return latents


def decoded(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    pictures: Tensor = vae.decode(latents).sample
    return pictures


def scene(side: int) -> Tensor:
    pixels = torch.tensor(draw(any_scene(random.Random(1)), side, side))
    return pixels.permute(2, 0, 1)[None] / 127.5 - 1


@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("place", range(56, 64))
def test_an_outline_is_three_pixels_wide_at_most_and_where_it_was(vae: AutoencoderKL, place: int, across: bool) -> None:
    given = torch.full((1, 3, 128, 128), DARK)
    given[..., place:] = BRIGHT
    drawn = decoded(vae, encoded(vae, given if across else given.mT))[0].mean(dim=0)
    lines = (drawn if across else drawn.T)[BORDER:-BORDER]
    shares = (lines - DARK) / (BRIGHT - DARK)
    assert int(((shares > 0.1) & (shares < 0.9)).sum(dim=1).max()) <= 3
    assert int(((shares < 0.5).sum(dim=1) - place).abs().max()) <= 1
    assert bool((lines > DARK - 0.01).all())
    assert bool((lines < BRIGHT + 0.01).all())


@pytest.mark.parametrize("slope", [0.2, 0.6, 1.0])
def test_a_slanted_outline_between_colours_is_where_it_was(vae: AutoencoderKL, slope: float) -> None:
    """All that is wrong lies within two pixels of it."""
    rows, columns = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    beyond = (columns - 64) - slope * (rows - 64)
    one, other = (torch.tensor(colour)[:, None, None] for colour in ((0.9, -0.6, 0.1), (-0.7, 0.2, 0.8)))
    given = torch.where(beyond > 0, one, other)[None]
    wrong = (decoded(vae, encoded(vae, given)) - given)[0].abs().amax(dim=0) > 0.25
    inner = wrong[BORDER:-BORDER, BORDER:-BORDER]
    distances = (beyond.abs() / (1 + slope**2) ** 0.5)[BORDER:-BORDER, BORDER:-BORDER]
    assert float(distances[inner].max()) <= 2


def test_what_runs_evenly_comes_back_without_stairs(vae: AutoencoderKL) -> None:
    ramp = torch.linspace(-1, 1, 128)
    given = torch.stack([ramp.expand(128, 128), ramp[:, None].expand(128, 128), -ramp.expand(128, 128)])[None]
    inner = decoded(vae, encoded(vae, given))[..., 24:-24, 24:-24]
    assert torch.allclose(inner, given[..., 24:-24, 24:-24], atol=0.005)


@pytest.mark.parametrize("level", [-1.0, -0.3, 0.0, 1.0])
def test_one_colour_comes_back_up_to_the_border(vae: AutoencoderKL, level: float) -> None:
    given = torch.full((1, 3, 64, 48), level)
    assert torch.allclose(decoded(vae, encoded(vae, given)), given, atol=0.01)


def test_grain_is_not_sharpened(vae: AutoencoderKL) -> None:
    grain = torch.randn(1, 4, 24, 24, generator=torch.Generator().manual_seed(1)) * AMPLITUDE * GRAIN / 4
    smooth = decoded(vae, grain).std()
    assert 0 < smooth < GRAIN / 4
    assert torch.allclose(decoded(vae, 2 * grain).std(), 2 * smooth, rtol=0.05)


def test_latents_are_averages_of_cells(vae: AutoencoderKL) -> None:
    given = scene(128)
    means = torch.nn.functional.avg_pool2d(given, 8)
    wanted = torch.cat([means, means.mean(dim=1, keepdim=True)], dim=1) * AMPLITUDE
    assert torch.allclose(encoded(vae, given), wanted, atol=1e-3)


def test_a_part_is_decoded_as_in_the_whole(vae: AutoencoderKL) -> None:
    """Norms, which see all of a picture, find nothing that differs from place to place."""
    latents = 5 * torch.randn(1, 4, 12, 32, generator=torch.Generator().manual_seed(1))
    whole, part = decoded(vae, latents), decoded(vae, latents[..., :20])
    inner = 20 * 8 - REACH
    assert torch.allclose(part[..., :inner], whole[..., :inner], atol=2e-3)


def test_in_bfloat16_pictures_are_nearly_the_same(vae: AutoencoderKL) -> None:
    latents = encoded(vae, scene(256))
    drawn = decoded(torch.nn.Module.to(made(), torch.bfloat16), latents.bfloat16()).float()
    errors = (drawn - decoded(vae, latents)).abs()
    assert float(errors.mean()) < 0.01
    assert float(errors.quantile(0.99)) < 0.1  # beside an outline differences of large ramps are rounded
