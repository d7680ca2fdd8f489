"""What writing a finished picture costs: CPU time and bytes, by format and by the operator's settings.

Encoders' time depends on the picture, so there are two: a photograph with the noise of a sensor, and flat shapes.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import process_time
from types import MappingProxyType

import numpy as np
import torch
from PIL import Image, ImageDraw
from skimage import data

from benchmarks.report import Report, Table, machine
from gateway.images.codec import Pixels, encode_image
from gateway.settings import OutputSettings
from gateway.work import ImageFormat

SIDE, ROUNDS = 1024, 9
NOISE = 3.0  # standard deviation, of 255
SHAPES = 40

SETTINGS: Mapping[str, tuple[ImageFormat, OutputSettings]] = MappingProxyType(
    {
        "jpeg": ("jpeg", OutputSettings()),
        "jpeg, jpeg_optimize": ("jpeg", OutputSettings(jpeg_optimize=True)),
        **{f"png, png_compression {level}": ("png", OutputSettings(png_compression=level)) for level in (1, 3, 6, 9)},
        "webp": ("webp", OutputSettings()),
    }
)


def photograph(side: int) -> Pixels:
    face = data.astronaut()  # type: ignore[no-untyped-call]
    smooth = Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(0).normal(0, NOISE, (side, side, 3))
    return np.clip(np.asarray(smooth) + noise, 0, 255).astype(np.uint8)


def flat_shapes(side: int) -> Pixels:
    chance = np.random.default_rng(0)
    picture = Image.new("RGB", (side, side), "ivory")
    pen = ImageDraw.Draw(picture)
    for left, top, size, *colour in chance.integers(
        (0, 0, side // 16, 0, 0, 0), (side, side, side // 4, 256, 256, 256), (SHAPES, 6)
    ).tolist():
        pen.ellipse((left, top, left + size, top + size), fill=tuple(colour), outline="black")
    return np.asarray(picture)


def measured(pixels: Pixels, title: str, rounds: int) -> Table:
    """Medians of rounds in which every setting is used in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in SETTINGS}
    sizes = {}
    for _ in range(rounds):
        for name, (format, output) in SETTINGS.items():
            begun = process_time()
            sizes[name] = len(encode_image(pixels, format, output))
            seconds[name].append(process_time() - begun)
    table = Table(title)
    for name in SETTINGS:
        table.rows.append({"as": name, "CPU ms": 1000 * median(seconds[name]), "KiB": sizes[name] / 1024})
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--size", type=int, default=SIDE)
    given = parser.parse_args(arguments)
    pictures = {"A photograph with noise": photograph(given.size), "Flat shapes": flat_shapes(given.size)}
    tables = [measured(pixels, title, given.rounds) for title, pixels in pictures.items()]
    command = " ".join(["python -m benchmarks.encoding", *(sys.argv[1:] if arguments is None else arguments)])
    facts = {
        **machine(torch.device("cpu")),
        "pillow": version("pillow"),
        "pixels a side": given.size,
        "rounds": given.rounds,
    }
    Report("encoding", command, facts, tables).publish(given.out)


if __name__ == "__main__":
    main()
