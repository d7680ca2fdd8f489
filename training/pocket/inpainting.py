"""Trains the inpaint head and patch: the UNet sees what is around a hole and draws in it what the prompt says."""

import random
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.pocket.acceptance.inpaint import Holed, helped, hole, score, told
from benchmarks.pocket.sampling import predict
from benchmarks.pocket.world.captions import caption
from benchmarks.pocket.world.drawing import draw
from benchmarks.pocket.world.scenes import any_scene
from training.pocket.adapter import Adapter
from training.pocket.frozen_models import FrozenModels, Noised
from training.pocket.run_dir import RunDir
from training.pocket.trainer import Plan, follow

RANK, BATCH = 16, 12
PLAN = Plan(steps=400, rate=1e-3)
NOISE = (0.2, 14.0)
AROUND = 0.1  # what a latent outside the hole counts for: it is not taken from the answer
UNSAID = 0.1
TRIED, TRIED_STEPS = 24, 12


class Inpainting(nn.Module):
    """Added to the UNet. head: (width, 5, 3, 3), over the hole and the latents around it (fooocus-facts 6.7)."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.head = nn.Parameter(torch.zeros(unet.conv_in.out_channels, 5, 3, 3))
        self.change = Adapter(unet, RANK)


def train(run_dir: RunDir, frozen: FrozenModels) -> None:
    """Leaves `weights.pt` in the run's folder: `head`, and the UNet's changes as an adapter stores them."""
    inpainting = Inpainting(frozen.unet).to(run_dir.device)

    def lesson(chance: random.Random, side: int) -> Tensor:
        scenes = [any_scene(chance) for _ in range(BATCH)]
        pictures = [draw(scene, side, side, chance, smooth=1) for scene in scenes]
        holed = Holed.of(pictures, [hole(scene.things[0], side, chance) for scene in scenes], frozen.device)
        noised = Noised.of(holed.whole, *NOISE, unknown=holed.holes)
        spoken = frozen.told(["" if chance.random() < UNSAID else caption(scene, chance) for scene in scenes])
        with told(frozen.unet, inpainting.head, holed.holes, holed.around):
            eps = predict(inpainting.change.changed(), noised.x, noised.timesteps, *spoken)
        return noised.loss(eps, AROUND + (1 - AROUND) * holed.holes)

    def exam() -> Mapping[str, float]:
        found: dict[str, float] = {}
        for share in (0.0, 1.0):
            with helped(frozen.unet, share * inpainting.head, TRIED) as holed:
                right = score(frozen.reader, inpainting.change.changed(share), holed, TRIED_STEPS)
            found |= {f"{name}_{share}": value for name, value in right.items()}
        return found

    follow(run_dir, inpainting, PLAN, lesson, exam)
    torch.save({"head": inpainting.head.detach(), **inpainting.change.stored()}, run_dir.folder / "weights.pt")
