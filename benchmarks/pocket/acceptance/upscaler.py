"""Gate 10, the upscaler: it brings back more of a scene than bicubic enlargement does, alone and drawn over."""

import math
import random
from collections.abc import Mapping

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.pocket import latents
from benchmarks.pocket.acceptance.engine import drawn
from benchmarks.pocket.acceptance.metric import Metric
from benchmarks.pocket.world.drawing import Pixels, draw
from benchmarks.pocket.world.exam import held_out
from benchmarks.pocket.world.scenes import any_scene
from gateway.endpoints.fooocus import FooocusUpscaleOrVaryInput
from models.pocket import names
from pipelines.drawing import Drawer
from pipelines.preparing import LoraCatalogue
from pipelines.weights.esrgan import Upscaler, read_upscaler
from pipelines.weights.family import Family

FACTOR = 4
MOST_MOVED = 2 * latents.FACTOR  # pixels by which drawing over may move an outline: two latents
LEAST_STEEPNESS: Mapping[int, float] = {2: 1.25, 4: 1.6}
"""Of outlines, by how many times a picture was enlarged: grain of three levels, which a UNet leaves less of, makes up
to 1.20 and 1.47 of a bicubic picture."""


def enlarges(family: Family, side: int, count: int) -> list[Metric]:
    """side: of the enlarged pictures."""
    network = read_upscaler(family.catalogue.root / "upscale" / names.UPSCALER)
    with torch.inference_mode():
        found = exam(network, side, count)
    return [
        Metric(f"upscaler, to {side} x {side}: PSNR in dB (wanted: bicubic's)", found["upscaler"], found["bicubic"])
    ]


def draws_over(drawer: Drawer, catalogue: LoraCatalogue, side: int, count: int) -> list[Metric]:
    """Held-out drawings of a side that are enlarged twofold and drawn over in the endpoint's own steps."""
    scenes, said = held_out(count)
    given = [draw(scene, side, side) for scene in scenes]
    asked = {"uov_image_url": "data:image/png;base64,", "uov_method": "Upscale (2x)", "styles": []}  # given decoded
    specs = [
        FooocusUpscaleOrVaryInput.model_validate({"prompt": words, "seed": seed, **asked}).spec()
        for seed, words in enumerate(said)
    ]
    pictures = drawn(drawer, catalogue, specs, [[picture] for picture in given])
    pairs = list(zip(pictures, given, strict=True))
    least = LEAST_STEEPNESS[len(pictures[0]) // side]
    detailed = sum(detail_over_bicubic(*pair) > 1 for pair in pairs) / count
    steep = sum(steepness_over_bicubic(*pair) > least for pair in pairs) / count
    return [
        Metric(f"Upscale (2x) of {side} x {side}: share of drawings with {what}", share, 1.0)
        for what, share in (("more detail than bicubic", detailed), (f"outlines {least} times as steep", steep))
    ]


@torch.no_grad()
def exam(network: Upscaler, side: int, count: int) -> dict[str, float]:
    """PSNR in dB of the upscaler's pictures and of bicubic ones, 8 bits each: the mean of `count` held-out scenes."""
    found: dict[str, list[float]] = {"upscaler": [], "bicubic": []}
    device = next(network.parameters()).device
    for at in range(count):
        large = values(scene(random.Random(f"held out {at}"), side)[None]).to(device)
        small = reduced(large)
        found["upscaler"].append(_psnr(_whole(network(small)), large))
        found["bicubic"].append(_psnr(_bicubic(small), large))
    return {name: sum(values) / count for name, values in found.items()}


def detail_over_bicubic(enlarged: Pixels, given: Pixels) -> float:
    """How many times the detail of the given picture, enlarged to the same size, a picture has: of the Laplacian's
    variance in gray, the usual figure. Grain counts too, and much where both colours are about as bright.

    Both are (height, width, 3).
    """
    fine, plain = (
        float(cv2.Laplacian(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())
        for pixels in (enlarged, _bicubic_like(enlarged, given))
    )
    return fine / plain


def steepness_over_bicubic(enlarged: Pixels, given: Pixels) -> float:
    """How many times as steep a picture's outlines are as those of the given picture, enlarged to the same size.

    Steepness is the greatest difference of neighbours, in all colours, within `MOST_MOVED` pixels of where the enlarged
    given picture has more than half of its greatest: little of it is grain. Both are (height, width, 3).
    """
    steep, plain = (_differences(pixels) for pixels in (enlarged, _bicubic_like(enlarged, given)))
    outlines = plain > plain.max() / 2
    around = np.ones((2 * MOST_MOVED + 1, 2 * MOST_MOVED + 1))
    steepest, plainest = (cv2.dilate(each, around)[outlines].mean() for each in (steep, plain))
    return float(steepest / plainest)


def _bicubic_like(enlarged: Pixels, given: Pixels) -> Pixels:
    size = enlarged.shape[1], enlarged.shape[0]
    return np.asarray(Image.fromarray(given).resize(size, Image.Resampling.BICUBIC))


def _differences(pixels: Pixels) -> npt.NDArray[np.float64]:
    """(height, width): of each pixel to the next one to the right and below."""
    levels = pixels.astype(np.float64)
    squares = np.zeros(levels.shape[:2])
    squares[:, :-1] += (np.diff(levels, axis=1) ** 2).sum(axis=2)
    squares[:-1] += (np.diff(levels, axis=0) ** 2).sum(axis=2)
    return np.sqrt(squares)


def _bicubic(small: Tensor) -> Tensor:
    pixels = (small[0].permute(1, 2, 0) * 255).round().byte().cpu().numpy()
    size = FACTOR * pixels.shape[1], FACTOR * pixels.shape[0]
    return values(np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))[None]).to(small.device)


def scene(chance: random.Random, side: int) -> Pixels:
    """(side, side, 3)."""
    return draw(any_scene(chance), side, side, chance, smooth=2)


def reduced(large: Tensor) -> Tensor:
    """Averages over 4 x 4 pixels, in whole 8-bit levels as pictures have them."""
    return _whole(nn.functional.avg_pool2d(large, FACTOR))


def _whole(values: Tensor) -> Tensor:
    return (values.clamp(0, 1) * 255).round() / 255


def values(pictures: Pixels) -> Tensor:
    """(n, height, width, 3) pixels to (n, 3, height, width) of 0..1."""
    return torch.tensor(pictures).permute(0, 3, 1, 2).float() / 255


def _psnr(one: Tensor, other: Tensor) -> float:
    return -10 * math.log10(max(1e-10, float((one - other).square().mean())))
