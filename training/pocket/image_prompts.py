"""Trains the image-prompt adapters: one takes over what a picture shows, one only the face in it."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from benchmarks.pocket.acceptance.image_prompts import Example, asked, attending, face, picture, score
from benchmarks.pocket.attending import weigh_image_prompt
from benchmarks.pocket.latents import all_latents
from benchmarks.pocket.sampling import predict
from benchmarks.pocket.world.drawing import draw
from pipelines.weights.image_prompt import tower_features, tower_input
from training.pocket import reading
from training.pocket.frozen_models import FrozenModels, Noised, counts, left_here, left_or_shipped
from training.pocket.image_adapter import ImagePrompt
from training.pocket.run_dir import RunDir
from training.pocket.trainer import Plan, follow
from training.pocket.vision import make_tower

BATCH = 12
NOISE = (3.0, 14.6)  # under less noise it can be seen what there is
UNSEEN = 0.1  # share of lessons without a picture, for guidance
TRIED, TRIED_STEPS = 16, 12
WEIGHTS = (0.0, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Kind:
    """An adapter. example: of a lesson. begun: the part that it starts from."""

    plan: Plan
    example: Callable[[random.Random, int], Example]
    begun: str = ""


def train(run_dir: RunDir, frozen: FrozenModels, name: str, checkpoints: Path) -> None:
    """Leaves `module.pt` for a later adapter and `weights.pt`, as its file stores it, in the run's folder.

    name: of the adapter, a key of `KINDS`. Raises FileNotFoundError where the one that it goes on from was not trained
    in `checkpoints`.
    """
    kind = KINDS[name]
    tower: Any = make_tower()
    tower.load_state_dict(left_or_shipped(checkpoints, "vision", torch.device("cpu")))
    tower.to(run_dir.device)
    tower.requires_grad_(False)
    prompt = ImagePrompt(frozen.unet).to(run_dir.device)
    if kind.begun:
        prompt.load_state_dict(left_here(checkpoints, kind.begun, "module.pt", run_dir.device))
        prompt.negative.requires_grad_(False)  # both have the same
    else:
        held = RunDir.open(run_dir.folder, "reading", run_dir.device)
        reading.teach(held, frozen, tower, prompt.resampler)
    prompt.attach(frozen.unet)

    def seen(examples: list[Example]) -> Tensor:
        found: Tensor = prompt.resampler(
            tower_features(tower, tower_input([each.reference for each in examples]).to(frozen.device))
        )
        return found

    def lesson(chance: random.Random, side: int) -> Tensor:
        examples = [kind.example(chance, side) for _ in range(BATCH)]
        pictures = [draw(each.scene, side, side, chance, smooth=1) for each in examples]
        clean = all_latents(pictures).to(frozen.device)
        noised = Noised.of(clean, *NOISE)
        context, pooled = frozen.told([each.said for each in examples])
        unseen = torch.tensor([chance.random() < UNSEEN for _ in examples], device=frozen.device)
        shown = torch.where(unseen[:, None, None], prompt.negative, seen(examples))
        eps = predict(attending(frozen.unet, shown), noised.x, noised.timesteps, context, pooled)
        return noised.loss(eps, counts(clean))

    def exam() -> Mapping[str, float]:
        examples = asked(name, TRIED)
        shown = torch.cat([prompt.negative.expand(TRIED, -1, -1), seen(examples)])
        found: dict[str, float] = {}
        for weight in WEIGHTS:
            weigh_image_prompt(frozen.unet, weight)
            right = score(frozen.reader, frozen.unet, examples, shown, TRIED_STEPS)
            found |= {f"{aspect}_{weight}": right[aspect] for aspect in ("background", "colour", "shape", "place")}
        weigh_image_prompt(frozen.unet, 1.0)
        return found

    follow(run_dir, prompt, kind.plan, lesson, exam)
    torch.save(prompt.state_dict(), run_dir.folder / "module.pt")
    torch.save({**prompt.stored(), "negative": prompt.negative.detach()}, run_dir.folder / "weights.pt")


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "image_prompt": Kind(Plan(steps=300, rate=3e-4, examined=100), picture),
        "face_prompt": Kind(Plan(steps=200, rate=5e-4, examined=100), face, begun="image_prompt"),
    }
)
