"""Trains the image-prompt adapters: one takes over what a picture shows, one only the face in it."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from benchmarks.pocket.world.captions import caption
from benchmarks.pocket.world.drawing import Pixels, draw
from benchmarks.pocket.world.exam import marks
from benchmarks.pocket.world.scenes import COLOURS, PLACES, SIZES, Scene, Thing, any_scene
from models.pocket.vision import ImagePrompt, make_tower, weigh
from training.pocket import reading
from training.pocket.course import Plan, follow
from training.pocket.lessons import Reader, all_latents, pixels_of
from training.pocket.school import TOKENS, Noised, School, counts
from training.pocket.session import Session
from training.pocket.trial import draw_latents, predict
from training.pocket.vision import features, values

BATCH = 12
NOISE = (3.0, 14.6)  # under less noise it can be seen what there is
UNSEEN = 0.1  # share of lessons without a picture, for guidance
SIDE, TRIED, TRIED_STEPS = 256, 16, 12
WEIGHTS = (0.0, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Example:
    """What is to be drawn, what is said of it, and the picture that it is shown with."""

    scene: Scene
    said: str
    reference: Pixels


@dataclass(frozen=True, slots=True)
class Kind:
    """An adapter. example: of a lesson. asked: of its exam. begun: the part that it starts from."""

    plan: Plan
    example: Callable[[random.Random, int], Example]
    asked: Callable[[random.Random, int], Example]
    begun: str = ""


def train(session: Session, school: School, kind: Kind, checkpoints: Path) -> None:
    """Leaves `module.pt` for a later adapter and `weights.pt`, as its file stores it, in the session's folder."""
    tower: Any = make_tower()
    seen_by = checkpoints / "vision" / "weights.pt"
    tower.to(session.device).load_state_dict(torch.load(seen_by, map_location=session.device, weights_only=True))
    tower.requires_grad_(False)
    prompt = ImagePrompt(school.unet).to(session.device)
    if kind.begun:
        prompt.load_state_dict(
            torch.load(checkpoints / kind.begun / "module.pt", map_location=session.device, weights_only=True)
        )
        prompt.negative.requires_grad_(False)  # both have the same
    else:
        held = Session.open(session.folder, "reading", session.device)
        reading.teach(held, school, tower, prompt.resampler)
    prompt.attach(school.unet)

    def seen(examples: list[Example]) -> Tensor:
        found: Tensor = prompt.resampler(
            features(tower, values([each.reference for each in examples]).to(school.device))
        )
        return found

    def lesson(chance: random.Random, side: int) -> Tensor:
        examples = [kind.example(chance, side) for _ in range(BATCH)]
        pictures = [draw(each.scene, side, side, chance, smooth=1) for each in examples]
        clean = all_latents(pictures).to(school.device)
        noised = Noised.of(clean, *NOISE)
        context, pooled = school.told([each.said for each in examples])
        unseen = torch.tensor([chance.random() < UNSEEN for _ in examples], device=school.device)
        shown = torch.where(unseen[:, None, None], prompt.negative, seen(examples))
        eps = predict(_attending(school.unet, shown), noised.x, noised.timesteps, context, pooled)
        return noised.loss(eps, counts(clean))

    def exam() -> Mapping[str, float]:
        examples = asked(kind, TRIED)
        shown = torch.cat([prompt.negative.expand(TRIED, -1, -1), seen(examples)])
        found: dict[str, float] = {}
        for weight in WEIGHTS:
            weigh(school.unet, weight)
            right = score(school.reader, school.unet, examples, shown)
            found |= {f"{name}_{weight}": right[name] for name in ("background", "colour", "shape", "place")}
        weigh(school.unet, 1.0)
        return found

    follow(session, prompt, kind.plan, lesson, exam)
    torch.save(prompt.state_dict(), session.folder / "module.pt")
    torch.save({**prompt.stored(), "negative": prompt.negative.detach()}, session.folder / "weights.pt")


def asked(kind: Kind, count: int) -> list[Example]:
    """Of the exam."""
    chance = random.Random("held out")
    return [kind.asked(chance, SIDE) for _ in range(count)]


def score(
    reader: Reader, unet: Any, examples: list[Example], shown: Tensor, steps: int = TRIED_STEPS
) -> dict[str, float]:
    """The marks of pictures drawn with examples. shown: tokens (2 n, tokens, width), those of no picture first."""
    said = [each.said for each in examples]
    drawn = draw_latents(_attending(unet, shown), reader, said, SIDE, steps, TOKENS)
    return marks([each.scene for each in examples], list(pixels_of(drawn)))


def _attending(unet: Any, shown: Tensor) -> Callable[..., Any]:
    def answer(x: Tensor, timesteps: Tensor, context: Tensor, **given: Any) -> Any:
        return unet(x, timesteps, (context, [shown[:, None]]), **given)

    return answer


def _picture(chance: random.Random, side: int, told: float = 0.3) -> Example:
    """The picture itself is shown. told: how often a caption goes with it."""
    scene = any_scene(chance)
    said = caption(scene, chance) if chance.random() < told else ""
    return Example(scene, said, draw(scene, side, side, chance, smooth=1))


def _wordless(chance: random.Random, side: int) -> Example:
    example = _picture(chance, side, told=0.0)
    alone = example.scene.alone()
    return Example(alone, "", draw(alone, side, side))


def _face(chance: random.Random, side: int) -> Example:
    """A face is shown as a crop does it, large; the caption says where one is to be and what is behind it."""
    background, colour, other = chance.sample(sorted(COLOURS), 3)
    thing = Thing("face", colour, chance.choice(sorted(SIZES)), chance.choice(sorted(PLACES)))
    said = caption(Scene((thing,), background), chance, complete=True).replace(f"{colour} ", "", 1)
    return Example(Scene((thing,), background), said, _cropped(colour, other, side, chance))


def _cropped(colour: str, ground: str, side: int, chance: random.Random) -> Pixels:
    """A face that fills the picture."""
    large = draw(Scene((Thing("face", colour, "big", "centre"),), ground), 2 * side, 2 * side, chance, smooth=1)
    edge = round(side * 0.5 * chance.uniform(0.95, 1.05))
    return large[side - edge : side + edge, side - edge : side + edge]


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "image_prompt": Kind(Plan(steps=300, rate=3e-4, examined=100), _picture, _wordless),
        "face_prompt": Kind(Plan(steps=200, rate=5e-4, examined=100), _face, _face, begun="image_prompt"),
    }
)
