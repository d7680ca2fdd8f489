"""Large pictures pass the VAE in tiles; the others as they always did."""

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.pocket.world.drawing import draw
from benchmarks.pocket.world.scenes import Scene, Thing
from pipelines.device import PlainDevice
from pipelines.stages import vae
from pipelines.stages.vae import (
    DecodeLatent,
    DecodeStage,
    DecodeTile,
    DecodeTileStage,
    EncodeImage,
    EncodeStage,
    EncodeTile,
    EncodeTileStage,
)
from pipelines.weights.family import Family
from tests.pipelines.stages.driving import driven

DEVICE = PlainDevice(torch.device("cpu"))
PICTURE = draw(Scene((Thing("star", "red", "big", "centre"),), "blue"), 120, 152)
TILES = (10, 10), (16, 6), (6, 16)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this picture were large: the same rules with smaller tiles."""
    monkeypatch.setattr(vae, "TILED_ABOVE", 0)
    monkeypatch.setattr(vae, "TILES", TILES)
    monkeypatch.setattr(vae, "ENCODED_OVERLAP", 4)
    monkeypatch.setattr(vae, "DECODED_OVERLAP", 4)


def blended(tiles: dict[tuple[int, int, int, int], Tensor], height: int, width: int, grow: int) -> Tensor:
    """A pass: by ramps over 4 places of the latent, the sum of weighted tiles over the sum of weights."""
    above = torch.zeros(3, height * grow, width * grow)
    below = torch.zeros(height * grow, width * grow)
    for (top, left, tall, wide), made in tiles.items():
        weight = torch.ones(tall * grow, wide * grow)
        for k in range(4 * grow):
            share = (k + 1) / (4 * grow)
            for line in (weight[k], weight[-1 - k], weight[:, k], weight[:, -1 - k]):
                line *= share
        place = slice(top * grow, (top + tall) * grow), slice(left * grow, (left + wide) * grow)
        above[:, *place] += weight * made
        below[place] += weight
    return above / below


def places(side: int, tile: int) -> list[int]:
    tile = min(tile, side)
    return sorted({min(start, side - tile) for start in range(0, max(1, side - 4), tile - 4)})


@pytest.mark.usefixtures("small_tiles")
def test_decoding_in_tiles_is_the_mean_of_three_passes(pocket_family: Family) -> None:
    latent = torch.randn(4, 15, 19, generator=torch.Generator().manual_seed(0))
    stage = DecodeTileStage(pocket_family.vae)
    passes = []
    for tall, wide in TILES:
        tall, wide = min(tall, 15), min(wide, 19)
        tiles = {}
        for top in places(15, tall):
            for left in places(19, wide):
                with torch.inference_mode():
                    cut = DecodeTile(latent[:, top : top + tall, left : left + wide])
                    tiles[top, left, tall, wide] = stage.run([cut]).values[0]
        passes.append(blended(tiles, 15, 19, 8))
    expected = ((torch.stack(passes).mean(dim=0) + 1) / 2).clamp(0, 1) * 255
    found = driven(vae.decode(latent, DEVICE), [stage])().float()
    assert (found - (expected.permute(1, 2, 0) - 0.5)).abs().max() <= 0.51


@pytest.mark.usefixtures("small_tiles")
def test_tiles_change_a_picture_little(pocket_family: Family) -> None:
    family = pocket_family
    tiled = [EncodeTileStage(family.vae, DEVICE), DecodeTileStage(family.vae)]
    with torch.inference_mode():
        plain = EncodeStage(family.vae, DEVICE).run([EncodeImage(PICTURE, 7)]).values[0]
        shown = DecodeStage(family.vae, DEVICE).run([DecodeLatent(plain)]).values[0]()
    latent = driven(vae.encode(PICTURE, 7, DEVICE), tiled)
    assert latent.shape == plain.shape
    assert (latent - plain).abs().mean() < 0.1 * plain.abs().mean()
    again = driven(vae.decode(plain, DEVICE), tiled)()
    assert (again.float() - shown.float()).abs().mean() < 6
    assert torch.equal(driven(vae.encode(torch.tensor(PICTURE), 7, DEVICE), tiled), latent)
    assert not torch.equal(driven(vae.encode(PICTURE, 8, DEVICE), tiled), latent)


def test_pictures_of_ordinary_sizes_are_encoded_and_decoded_as_ever(pocket_family: Family) -> None:
    stages = [EncodeStage(pocket_family.vae, DEVICE), DecodeStage(pocket_family.vae, DEVICE)]
    with torch.inference_mode():
        expected = EncodeStage(pocket_family.vae, DEVICE).run([EncodeImage(PICTURE, 7)]).values[0]
        shown = DecodeStage(pocket_family.vae, DEVICE).run([DecodeLatent(expected)]).values[0]()
    assert torch.equal(driven(vae.encode(PICTURE, 7, DEVICE), stages), expected)
    assert torch.equal(driven(vae.decode(expected, DEVICE), stages)(), shown)


@pytest.mark.parametrize(
    ("height", "width", "whole"),
    [(2048, 2048, True), (1024, 4096, True), (2048, 2056, False), (2056, 2048, False), (2800, 2800, False)],
)
def test_the_size_alone_decides(height: int, width: int, whole: bool) -> None:
    pixels = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (height, width, 3))
    latent = torch.zeros(1, 1, 1).expand(4, height // 8, width // 8)
    assert isinstance(next(vae.encode(pixels, 7, DEVICE)), EncodeImage if whole else EncodeTile)
    assert isinstance(next(vae.decode(latent, DEVICE)), DecodeLatent if whole else DecodeTile)


def test_the_tiles_are_fooocus_own() -> None:
    """fooocus-facts 8.1, in places of the latent: 64x64, 32x128 and 128x32, and 16 (decoding) or 8 (64 pixels)."""
    assert set(vae.TILES) == {(64, 64), (128, 32), (32, 128)}
    assert (vae.DECODED_OVERLAP, vae.ENCODED_OVERLAP) == (16, 8)
    first = next(vae.encode(np.zeros((2800, 2800, 3), np.uint8), 7, DEVICE))
    assert isinstance(first, EncodeTile)
    assert first.pixels.shape == (512, 512, 3)
