"""Trains the vision tower to tell what pictures show, so that its features say so to the image-prompt adapter."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.pocket.world.drawing import Pixels, draw
from benchmarks.pocket.world.scenes import COLOURS, PLACES, SHAPES, SIZES, Scene, any_scene
from models.pocket.vision import DEVIATION, EDGE, MEAN, VISION, make_tower
from training.pocket.course import Plan, follow
from training.pocket.session import Session

BATCH = 48
PLAN = Plan(steps=4_000, rate=1e-3, sides=(EDGE,), examined=500)
QUESTIONS: tuple[tuple[str, ...], ...] = (SHAPES, tuple(COLOURS), tuple(SIZES), tuple(PLACES), tuple(COLOURS))
TRIED = 100


def train(session: Session) -> None:
    """Leaves `weights.pt` in the session's folder."""
    pupil = _Pupil().to(session.device)

    def lesson(chance: random.Random, side: int) -> Tensor:
        scenes = [any_scene(chance).alone() for _ in range(BATCH)]
        answers = pupil(seen(scenes, side, chance).to(session.device))
        wanted = _answers(scenes).to(session.device)
        return torch.stack([cross_entropy(each, wanted[:, at]) for at, each in enumerate(answers)]).mean()

    def exam() -> Mapping[str, float]:
        chance = random.Random("held out")
        scenes = [any_scene(chance).alone() for _ in range(TRIED)]
        answers = pupil(seen(scenes, EDGE, chance).to(session.device))
        wanted = _answers(scenes).to(session.device)
        names = ("shape", "colour", "size", "place", "background")
        return {
            name: float((each.argmax(dim=1) == wanted[:, at]).float().mean())
            for at, (name, each) in enumerate(zip(names, answers, strict=True))
        }

    follow(session, pupil, PLAN, lesson, exam)
    torch.save(pupil.tower.state_dict(), session.folder / "weights.pt")


def values(pictures: Sequence[Pixels]) -> Tensor:
    """(n, 3, 224, 224), as the tower sees (height, width, 3) pictures: stretched and normalised."""
    small = [np.asarray(Image.fromarray(each).resize((EDGE, EDGE), Image.Resampling.LANCZOS)) for each in pictures]
    found = (torch.from_numpy(np.stack(small)).float() / 255 - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    return found.permute(0, 3, 1, 2)


def features(tower: Any, pictures: Tensor) -> Tensor:
    """(n, patches + 1, width): what the last but one layer says of `values`, which is what the adapter is given."""
    found: Tensor = tower(pixel_values=pictures, output_hidden_states=True).hidden_states[-2]
    return found


class _Pupil(nn.Module):
    """A tower, and one linear answer to each question from what all its tokens say together."""

    def __init__(self) -> None:
        super().__init__()
        self.tower: nn.Module = make_tower()
        width: int = VISION["hidden_size"]
        self.answers = nn.ModuleList(nn.Linear(2 * width, len(choices)) for choices in QUESTIONS)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        found = features(self.tower, pictures)
        together = torch.cat([found.mean(dim=1), found.amax(dim=1)], dim=1)
        return [answer(together) for answer in self.answers]


def seen(scenes: Sequence[Scene], side: int, chance: random.Random) -> Tensor:
    """Scenes as the tower sees pictures of them."""
    return values([draw(scene, side, side, chance, smooth=1) for scene in scenes])


def _answers(scenes: Sequence[Scene]) -> Tensor:
    """(n, questions): which choice is right."""
    found = []
    for scene in scenes:
        thing = scene.things[0]
        said = (thing.shape, thing.colour, thing.size, thing.place, scene.background)
        found.append([choices.index(word) for choices, word in zip(QUESTIONS, said, strict=True)])
    return torch.tensor(found)
