"""Trains the 4x upscaler on scenes: from averages over 4 x 4 pixels back to sharp edges."""

import random
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.pocket.acceptance.upscaler import FACTOR, exam, reduced, scene, values
from models.pocket import shapes
from pipelines.weights.esrgan import Upscaler
from training.pocket.patches import Patches
from training.pocket.run_dir import RunDir
from training.pocket.trainer import Plan, follow

PLAN = Plan(steps=2_000, rate=2e-3, sides=(256, 256, 384, 512, 768, 1024), examined=500, half=False)
SCENES = 3  # of a step
PATCHES = Patches(side=56, margin=8, outlines=4, step=FACTOR)
CARRIED = 3  # channels that hold red, green and blue at first
SMALL = 0.1  # of the weights that PyTorch begins with
TRIED: Mapping[int, int] = MappingProxyType({256: 50, 1024: 10})  # held-out scenes of the last exam, by side
WITHIN = 5  # the exams on the way have so many times fewer


def train(run_dir: RunDir) -> None:
    """Leaves `weights.pt`, the averaged weights, in the run's folder."""
    network = begin().to(run_dir.device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # takes 0.6 of the time on a CPU

    def lesson(chance: random.Random, side: int) -> Tensor:
        return _lesson(network, chance, side)

    def score(fewer: int) -> Mapping[str, float]:
        found = {side: exam(network, side, count // fewer) for side, count in TRIED.items()}
        return {f"{name}_{side}": psnr for side, psnrs in found.items() for name, psnr in psnrs.items()}

    follow(run_dir, network, PLAN, lesson, lambda: score(WITHIN))
    torch.save(network.state_dict(), run_dir.folder / "weights.pt")
    run_dir.log(PLAN.steps, **score(1))


@torch.no_grad()
def begin() -> Upscaler:
    """An untrained upscaler that enlarges smoothly: red, green and blue lie in its first channels.

    Two repeats of each pixel, averaged 1 : 2 : 1 with their neighbours, are the bilinear enlargement by two.
    """
    network = Upscaler(**shapes.UPSCALER)
    once, smooth = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([1.0, 2.0, 1.0]) / 4
    kernels = {"model.0": once, "model.3": smooth, "model.6": smooth, "model.8": once, "model.10": once}
    kernels[f"model.1.sub.{shapes.UPSCALER['blocks']}"] = torch.zeros(3)  # what all blocks say together
    for name, module in network.named_modules():
        if not isinstance(module, nn.Conv2d) or module.bias is None:
            continue
        if name in kernels:
            module.weight[:CARRIED] = 0
            module.bias[:CARRIED] = 0
            for at in range(CARRIED):
                module.weight[at, at] = kernels[name][:, None] * kernels[name]
        else:  # in the blocks: as the paper begins
            module.weight *= SMALL
            module.bias *= SMALL
    return network


def _lesson(network: Upscaler, chance: random.Random, side: int) -> Tensor:
    """Minus the PSNR in dB, the mean of patches: what the exam asks for."""
    patches = [patch for _ in range(SCENES) for patch in PATCHES.cut(scene(chance, side), chance)]
    large = values(np.stack(patches)).to(next(network.parameters()).device)
    return PATCHES.loss(network(reduced(large)), large)
