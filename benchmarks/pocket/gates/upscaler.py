"""Gate 10, the upscaler: it brings back more of a scene than bicubic enlargement does."""

import torch

from benchmarks.pocket.gates.mark import Mark
from models.pocket import names
from pipelines.weights.esrgan import read_upscaler
from pipelines.weights.family import Family
from training.pocket.upscaler import exam


def enlarges(family: Family, side: int, count: int) -> list[Mark]:
    """side: of the enlarged pictures."""
    network = read_upscaler(family.catalogue.root / "upscale" / names.UPSCALER)
    with torch.inference_mode():
        found = exam(network, side, count)
    return [Mark(f"upscaler, to {side} x {side}: PSNR in dB (wanted: bicubic's)", found["upscaler"], found["bicubic"])]
