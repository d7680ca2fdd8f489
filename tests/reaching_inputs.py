"""What stands below the face for judges, as `tests/reaching.py`: text, pictures and the networks around the UNet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipelines import safety
from pipelines.conditioning import encode_prompt
from pipelines.events import Pixels
from pipelines.images import canny as pyra
from pipelines.images import cpds as contrast
from pipelines.images import paste as pasting
from pipelines.images import resize, sizes
from pipelines.prompts import chunks as chunking
from pipelines.prompts import emphasis as weighing
from pipelines.prompts import lines as lining
from pipelines.spec import Size
from pipelines.stages.vae import DecodeStage, DecodeTileStage, EncodeStage, EncodeTileStage, decode, encode
from pipelines.weights import esrgan
from tests.pipelines.stages.driving import driven
from tests.reaching_asked import DEVICE, Plain, refusals
from tests.reaching_weights import encoders

# -- text


def prompt_lines(text: str) -> list[str]:
    return lining.prompt_lines(text)


def emphasis(text: str) -> list[tuple[str, float]]:
    return weighing.parse_emphasis(text)


def chunks(lines: Sequence[str], tokenizers: Sequence[Any]) -> list[list[list[list[tuple[int, float]]]]]:
    return [list(line) for line in chunking.chunk_prompt(lines, tokenizers)]


def encode_text(lines: Sequence[str], models: Plain) -> tuple[Tensor, Tensor]:
    with refusals(), torch.no_grad():
        found = encode_prompt(lines, (models["tokenizer"], models["tokenizer_2"]), encoders(models))
    return found.context, found.pooled


# -- pictures


def canny(pixels: Pixels) -> Pixels:
    return pyra.pyra_canny(pixels)


def cpds(pixels: Pixels) -> Pixels:
    return contrast.cpds(pixels)


def cover(pixels: Pixels, width: int, height: int) -> Pixels:
    return resize.cover(pixels, Size(width=width, height=height))


def stretch(pixels: Pixels, width: int, height: int) -> Pixels:
    return resize.stretch(pixels, Size(width=width, height=height))


def size_of_start(width: int, height: int) -> tuple[int, int]:
    with refusals():
        size = sizes.size_of_start(width, height)
    return size.width, size.height


def size_to_vary(width: int, height: int) -> tuple[int, int]:
    with refusals():
        return sizes.size_to_vary(width, height)


def size_to_enlarge(width: int, height: int, factor: float) -> tuple[int, int, bool]:
    with refusals():
        found = sizes.size_to_enlarge(width, height, factor)
    return found.width, found.height, found.denoised


def soft_mask(mask: Pixels) -> Pixels:
    return pasting.soft_mask(mask)


def paste(drawn: Pixels, original: Pixels, mask: Pixels) -> Pixels:
    return pasting.paste(drawn, original, mask)


def encode_pixels(models: Plain, pixels: Pixels, seed: int) -> Tensor:
    stages = [EncodeStage(models["vae"], DEVICE), EncodeTileStage(models["vae"], DEVICE)]
    return driven(encode(pixels, seed, DEVICE), stages).clone()


def decode_latent(models: Plain, latent: Tensor) -> Pixels:
    stages = [DecodeStage(models["vae"], DEVICE), DecodeTileStage(models["vae"])]
    pixels: Pixels = driven(decode(latent, DEVICE), stages)().numpy()
    return pixels


def upscale(path: Path, pictures: Tensor) -> Tensor:
    with refusals(), torch.no_grad():
        answer: Tensor = esrgan.read_upscaler(path)(pictures)
    return answer


def safety_scores(folder: Path, pictures: Pixels) -> Tensor:
    with refusals():
        return safety.load(folder).scores(pictures)
