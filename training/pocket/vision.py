"""Trains the vision tower to tell what pictures show, so that its features say so to the image-prompt adapter."""

import random
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from benchmarks.pocket.world.drawing import draw
from benchmarks.pocket.world.scenes import COLOURS, PLACES, SHAPES, SIZES, Scene, any_scene
from models.pocket.vision import VISION
from pipelines.weights.image_prompt import EDGE, tower_features, tower_input
from training.pocket.run_dir import RunDir
from training.pocket.trainer import Plan, follow

BATCH = 48
PLAN = Plan(steps=4_000, rate=1e-3, sides=(EDGE,), examined=500)
QUESTIONS: tuple[tuple[str, ...], ...] = (SHAPES, tuple(COLOURS), tuple(SIZES), tuple(PLACES), tuple(COLOURS))
TRIED = 100
PLACED = 0.5  # how large the codes of places are at first


def train(run_dir: RunDir) -> None:
    """Leaves `weights.pt` in the run's folder."""
    pupil = _Pupil().to(run_dir.device)

    def lesson(chance: random.Random, side: int) -> Tensor:
        scenes = [any_scene(chance).alone() for _ in range(BATCH)]
        answers = pupil(seen(scenes, side, chance).to(run_dir.device))
        wanted = _answers(scenes).to(run_dir.device)
        return torch.stack([cross_entropy(each, wanted[:, at]) for at, each in enumerate(answers)]).mean()

    def exam() -> Mapping[str, float]:
        chance = random.Random("held out")
        scenes = [any_scene(chance).alone() for _ in range(TRIED)]
        answers = pupil(seen(scenes, EDGE, chance).to(run_dir.device))
        wanted = _answers(scenes).to(run_dir.device)
        names = ("shape", "colour", "size", "place", "background")
        return {
            name: float((each.argmax(dim=1) == wanted[:, at]).float().mean())
            for at, (name, each) in enumerate(zip(names, answers, strict=True))
        }

    follow(run_dir, pupil, PLAN, lesson, exam)
    torch.save(pupil.tower.state_dict(), run_dir.folder / "weights.pt")


def make_tower() -> CLIPVisionModelWithProjection:
    """An untrained tower. It knows one place from another: from the small random codes that transformers begins with,
    places are learned last."""
    tower = CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION))
    positions = tower.get_parameter("vision_model.embeddings.position_embedding.weight")
    patches = VISION["image_size"] // VISION["patch_size"]
    with torch.no_grad():
        positions[1:] = PLACED * _waves(patches, VISION["hidden_size"])
    return tower


def _waves(patches: int, width: int) -> Tensor:
    """(patches * patches, width): sines and cosines of both places, from half a wave across the picture to four."""
    at = (torch.arange(patches) + 0.5) / patches
    angles = torch.pi * at[:, None] * torch.logspace(0, 3, width // 4, base=2)
    along = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = along[:, None].expand(-1, patches, -1), along[None].expand(patches, -1, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)


class _Pupil(nn.Module):
    """A tower, and one linear answer to each question from what all its tokens say together."""

    def __init__(self) -> None:
        super().__init__()
        self.tower: nn.Module = make_tower()
        width: int = VISION["hidden_size"]
        self.answers = nn.ModuleList(nn.Linear(2 * width, len(choices)) for choices in QUESTIONS)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        found = tower_features(self.tower, pictures)
        together = torch.cat([found.mean(dim=1), found.amax(dim=1)], dim=1)
        return [answer(together) for answer in self.answers]


def seen(scenes: Sequence[Scene], side: int, chance: random.Random) -> Tensor:
    """Scenes as the tower sees pictures of them."""
    return tower_input([draw(scene, side, side, chance, smooth=1) for scene in scenes])


def _answers(scenes: Sequence[Scene]) -> Tensor:
    """(n, questions): which choice is right."""
    found = []
    for scene in scenes:
        thing = scene.things[0]
        said = (thing.shape, thing.colour, thing.size, thing.place, scene.background)
        found.append([choices.index(word) for choices, word in zip(QUESTIONS, said, strict=True)])
    return torch.tensor(found)
