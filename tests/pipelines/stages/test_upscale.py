"""Enlarging in tiles: what is put together of them is what the whole would be, within a bound on memory."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pipelines.device import PlainDevice
from pipelines.events import Pixels
from pipelines.inputs import Enlarging
from pipelines.stages.tiles import bands
from pipelines.stages.upscale import (
    GROW,
    OVERLAP,
    TILE,
    EnlargeTile,
    UpscaleStage,
    columns_of,
    enlarge,
    prepare_enlarging,
    rows_of,
    tiles_of,
    to_pixels,
)
from pipelines.weights.esrgan import Upscaler, read_upscaler
from pipelines.weights.family import Family
from tests.pipelines.stages.driving import driven

DEVICE = PlainDevice(torch.device("cpu"))


class Nearest(Upscaler):
    """Repeats pixels four times each way. seen: the sizes of what it was given."""

    def __init__(self) -> None:
        super().__init__(width=1, growth=1, blocks=1)
        self.seen: list[tuple[int, int]] = []

    def forward(self, pictures: Tensor) -> Tensor:
        self.seen.append((pictures.shape[2], pictures.shape[3]))
        return pictures.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)


def picture(height: int, width: int, levels: tuple[int, int] = (60, 196)) -> Pixels:
    return np.random.default_rng(0).integers(*levels, (height, width, 3), dtype=np.uint8)


def enlarged(
    pixels: Pixels, size: tuple[int, int], network: Upscaler, tile: int, overlap: int, told: list[int] | None = None
) -> Pixels:
    job = prepare_enlarging(Enlarging(pixels, size[1], size[0], denoised=False), network, DEVICE, tile, overlap)
    found: Pixels = to_pixels(driven(enlarge(job, told=told is not None), [UpscaleStage(DEVICE)], told)).numpy()
    return found


@pytest.mark.parametrize("size", [(160, 192), (80, 96), (60, 72), (203, 251), (55, 40), (120, 300), (250, 30)])
def test_tiles_are_resized_as_pillow_resizes_the_whole(size: tuple[int, int]) -> None:
    """Rows first, cut off to 8 bits, then columns: noise of all levels tells. A level that is rounded the other way in
    between may count for two."""
    pixels = picture(40, 48, levels=(0, 256))
    fourfold = Image.fromarray(np.repeat(np.repeat(pixels, 4, axis=0), 4, axis=1))
    wide = fourfold.resize((size[1], 160), Image.Resampling.LANCZOS)
    expected = np.asarray(wide.resize(size[::-1], Image.Resampling.LANCZOS)).astype(int)
    for tile in (16, 20, 64):
        found = enlarged(pixels, size, Nearest(), tile, 4)
        assert found.shape == (*size, 3)
        assert np.abs(found.astype(int) - expected).max() <= 2


def naive(
    pixels: Pixels, network: Upscaler, tile: int, overlap: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Tiles over the whole, weighted by ramps of four times the overlap on all sides (fooocus-facts 7)."""
    height, width = pixels.shape[:2]
    above, below = np.zeros((3, 4 * height, 4 * width)), np.zeros((4 * height, 4 * width))
    ramp = np.ones(4 * tile)
    for k in range(4 * overlap):
        ramp[k] *= (k + 1) / (4 * overlap)
        ramp[-1 - k] *= (k + 1) / (4 * overlap)
    weight = np.outer(ramp, ramp)
    starts = [
        sorted({min(start, side - tile) for start in range(0, side - overlap, tile - overlap)})
        for side in (height, width)
    ]
    for top in starts[0]:
        for left in starts[1]:
            cut = torch.tensor(pixels[top : top + tile, left : left + tile]).permute(2, 0, 1)[None] / 255
            with torch.inference_mode():
                made = network(cut)[0].clamp(0, 1).numpy()
            place = slice(4 * top, 4 * (top + tile)), slice(4 * left, 4 * (left + tile))
            above[:, *place] += weight * made
            below[place] += weight
    return above / below


@pytest.fixture(scope="module")
def network(pocket_family: Family) -> Upscaler:
    return read_upscaler(pocket_family.catalogue.part("upscaler"))


def test_the_tiles_of_the_upscaler_equal_a_naive_blending(network: Upscaler) -> None:
    pixels = picture(60, 90)
    expected = naive(pixels, network, 40, 8).transpose(1, 2, 0) * 255
    found = enlarged(pixels, (240, 360), network, 40, 8)
    assert np.abs(found - expected).max() <= 0.51


def test_tiles_come_near_to_the_whole_and_equal_it_where_no_edge_is_seen(network: Upscaler) -> None:
    """In a picture as smooth as pictures are. The network sees some 34 pixels far."""
    coarse = np.asarray(Image.fromarray(picture(8, 20)).resize((250, 90), Image.Resampling.BICUBIC))
    tiled = enlarged(coarse, (360, 1000), network, 160, 32).astype(int)
    whole = enlarged(coarse, (360, 1000), network, 512, 32).astype(int)
    first_edge, second_start = 160, 250 - 160
    seen = 34
    assert np.array_equal(tiled[:, : 4 * (second_start - 1)], whole[:, : 4 * (second_start - 1)])
    assert np.array_equal(tiled[:, 4 * (first_edge + 1) :], whole[:, 4 * (first_edge + 1) :])
    between = np.abs(tiled - whole)[:, 4 * second_start : 4 * first_edge]
    assert np.abs(tiled - whole)[:, 4 * (second_start + seen) : 4 * (first_edge - seen)].max(initial=0) <= 1
    assert between.max() <= 12
    assert between.mean() < 0.5


def test_the_network_never_sees_more_than_a_tile_whatever_the_picture_is() -> None:
    counting = Nearest()
    told: list[int] = []
    enlarged(picture(70, 300), (140, 600), counting, 32, 4, told)
    assert set(counting.seen) == {(32, 32)}
    assert told == list(range(1, len(counting.seen) + 1))


def test_a_tile_and_its_share_are_bound_by_the_size_of_a_tile() -> None:
    """Fooocus' tiles: 512 pixels, 32 of overlap. What a tile adds covers no more than it and the filter."""
    assert (TILE, OVERLAP) == (512, 32)
    cut = bands(4096, TILE, OVERLAP, GROW)
    assert [band.start for band in cut] == [480 * at for at in range(8)] + [4096 - 512]
    stretches = [columns.stretch for columns in columns_of(cut, 8192, DEVICE)]
    stretches += [rows.ended for rows in rows_of(cut, 8192, DEVICE)]
    assert max(stretch.made.stop - stretch.made.start for stretch in stretches) <= 1024 + 12
    assert max(stretch.matrix.shape[1] for stretch in stretches) <= 2048
    assert tiles_of(Enlarging(np.zeros((4096, 600, 3), np.uint8), 1200, 8192, denoised=False)) == 9 * 2


def test_a_tile_is_answered_alone_and_says_how_large_its_values_are() -> None:
    job = prepare_enlarging(Enlarging(picture(8, 8), 16, 16, denoised=False), Nearest(), DEVICE)
    stage = UpscaleStage(DEVICE)
    asked = EnlargeTile(job.network, job.wanted.pixels, job.rows[0].shares, job.columns[0].stretch)
    assert stage.cap(asked) == 1
    with torch.inference_mode():
        answers = stage.run([asked])
    assert answers.values[0].shape == (3, 32, 16)
    assert answers.largest is not None
    assert float(answers.largest[0]) == float(answers.values[0].abs().max())
