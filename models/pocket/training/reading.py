"""Teaches an image prompt to say of a picture what the text encoders make of its caption, which a UNet understands.

From there a few hundred steps with the UNet do; tokens of nothing, which the UNet had to make sense of, took thousands.
"""

import random
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from models.pocket.training.course import Plan, follow
from models.pocket.training.school import School
from models.pocket.training.session import Session
from models.pocket.training.vision import features, seen
from models.pocket.vision import TOKENS
from models.pocket.world.captions import PLACE_WORDS
from models.pocket.world.scenes import Scene, any_scene

BATCH = 48
PLAN = Plan(steps=1_500, rate=2e-3, examined=500)
SIDE, TRIED = 256, 100


def teach(session: Session, school: School, tower: Any, resampler: nn.Module) -> None:
    """Change the resampler. tower: what it sees pictures through, which stays as it is."""

    def error(chance: random.Random, count: int) -> Tensor:
        scenes = [any_scene(chance).alone() for _ in range(count)]
        wanted = school.told([_said(scene) for scene in scenes])[0][:, :TOKENS]
        found = resampler(features(tower, seen(scenes, SIDE, chance).to(school.device))).float()
        unsaid: Tensor = (found - wanted).square().mean() / wanted.var(dim=0).mean()
        return unsaid

    def exam() -> Mapping[str, float]:
        return {"unsaid": float(error(random.Random("held out"), TRIED))}

    follow(session, resampler, PLAN, lambda chance, _side: error(chance, BATCH), exam)


def _said(scene: Scene) -> str:
    """All that a picture of one thing shows, always in the same words."""
    (thing,) = scene.things
    place = PLACE_WORDS[thing.place][0]
    return f"a {thing.size} {thing.colour} {thing.shape} {place} on a {scene.background} background"
