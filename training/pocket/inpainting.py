"""Trains the inpaint head and patch: the UNet sees what is around a hole and draws in it what the prompt says."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.pocket.world.captions import caption
from benchmarks.pocket.world.drawing import Pixels, draw
from benchmarks.pocket.world.exam import held_out, marks
from benchmarks.pocket.world.scenes import PLACES, SIZES, Scene, Thing, any_scene
from training.pocket.adapter import Adapter
from training.pocket.course import Plan, follow
from training.pocket.lessons import FACTOR, Reader, all_latents, pixels_of
from training.pocket.school import TOKENS, Noised, School
from training.pocket.session import Session
from training.pocket.trial import draw_latents, predict

RANK, BATCH = 16, 12
PLAN = Plan(steps=400, rate=1e-3)
NOISE = (0.2, 14.0)
GRAY = 127  # of the pixels in the hole
AROUND = 0.1  # what a latent outside the hole counts for: it is not taken from the answer
UNSAID = 0.1
CLEARANCE = (1.15, 1.6)  # half the side of a hole, in radii of the thing in it
ASTRAY = 0.2  # share of holes that lie anywhere
SIDE, TRIED, TRIED_STEPS = 256, 24, 12


class Inpainting(nn.Module):
    """Added to the UNet. head: (width, 5, 3, 3), over the hole and the latents around it (fooocus-facts 6.7)."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.head = nn.Parameter(torch.zeros(unet.conv_in.out_channels, 5, 3, 3))
        self.change = Adapter(unet, RANK)


@contextmanager
def told(unet: Any, head: Tensor, holes: Tensor, around: Tensor) -> Iterator[None]:
    """Inside, the UNet knows where to draw. holes: (n, 1, h, w), 1 is to be drawn. around: (n, 4, h, w) latents."""
    seen = nn.functional.pad(torch.cat([holes, around], dim=1), (1, 1, 1, 1), mode="replicate")
    feature = nn.functional.conv2d(seen, head)
    handle = unet.conv_in.register_forward_hook(lambda _module, _inputs, answer: answer + feature)
    try:
        yield
    finally:
        handle.remove()


@dataclass(frozen=True, eq=False)
class Holed:
    """Pictures with holes.

    masks: (height, width) bool, True in the hole. whole, around: (n, 4, h, w) latents of pictures and of what is around
    their holes. holes: (n, 1, h, w), 1 where a latent's pixels reach into one.
    """

    pictures: list[Pixels]
    masks: list[np.ndarray[Any, Any]]
    whole: Tensor
    around: Tensor
    holes: Tensor

    @classmethod
    def of(cls, pictures: list[Pixels], masks: list[np.ndarray[Any, Any]], device: torch.device) -> "Holed":
        grayed = [np.where(mask[:, :, None], GRAY, picture) for picture, mask in zip(pictures, masks, strict=True)]
        holes = torch.stack([torch.from_numpy(mask)[None].float() for mask in masks])
        return cls(
            pictures,
            masks,
            all_latents(pictures).to(device),
            all_latents(grayed).to(device),
            nn.functional.max_pool2d(holes, FACTOR).to(device),
        )


def train(session: Session, school: School) -> None:
    """Leaves `weights.pt` in the session's folder: `head`, and the UNet's changes as an adapter stores them."""
    inpainting = Inpainting(school.unet).to(session.device)

    def lesson(chance: random.Random, side: int) -> Tensor:
        scenes = [any_scene(chance) for _ in range(BATCH)]
        pictures = [draw(scene, side, side, chance, smooth=1) for scene in scenes]
        holed = Holed.of(pictures, [_hole(scene.things[0], side, chance) for scene in scenes], school.device)
        noised = Noised.of(holed.whole, *NOISE, unknown=holed.holes)
        spoken = school.told(["" if chance.random() < UNSAID else caption(scene, chance) for scene in scenes])
        with told(school.unet, inpainting.head, holed.holes, holed.around):
            eps = predict(inpainting.change.changed(), noised.x, noised.timesteps, *spoken)
        return noised.loss(eps, AROUND + (1 - AROUND) * holed.holes)

    def exam() -> Mapping[str, float]:
        found: dict[str, float] = {}
        for share in (0.0, 1.0):
            with helped(school.unet, share * inpainting.head, TRIED) as holed:
                right = score(school.reader, inpainting.change.changed(share), holed)
            found |= {f"{name}_{share}": value for name, value in right.items()}
        return found

    follow(session, inpainting, PLAN, lesson, exam)
    torch.save({"head": inpainting.head.detach(), **inpainting.change.stored()}, session.folder / "weights.pt")


@contextmanager
def helped(unet: Any, head: Tensor, count: int) -> Iterator[Holed]:
    """Pictures with holes around something other than the held-out captions say; inside, the UNet is told of them."""
    scenes, _ = held_out(count)
    before = [_other(scene, random.Random(at)) for at, scene in enumerate(scenes)]
    masks = [_hole(scene.things[0], SIDE, None) for scene in scenes]
    holed = Holed.of([draw(scene, SIDE, SIDE) for scene in before], masks, head.device)
    with told(unet, head, holed.holes.repeat(2, 1, 1, 1), holed.around.repeat(2, 1, 1, 1)):
        yield holed


def score(reader: Reader, unet: Any, holed: Holed) -> dict[str, float]:
    """The marks of held-out captions of what is to be drawn in holes."""
    scenes, said = held_out(len(holed.holes))
    return marks(scenes, draw_in_holes(reader, unet, holed, said, TRIED_STEPS))


def draw_in_holes(reader: Reader, unet: Any, holed: Holed, said: list[str], steps: int) -> list[Pixels]:
    """The pictures with what was said drawn in their holes. What is around is blended in at each step."""
    chance = torch.Generator().manual_seed(3)

    def outside(x: Tensor, sigma: float) -> Tensor:
        fresh = torch.randn(x.shape, generator=chance).to(x.device)
        return holed.holes * x + (1 - holed.holes) * (holed.whole + sigma * fresh)

    def kept(clean: Tensor) -> Tensor:
        return holed.holes * clean + (1 - holed.holes) * holed.whole

    return list(pixels_of(draw_latents(unet, reader, said, SIDE, steps, TOKENS, before=outside, after=kept)))


def _other(scene: Scene, chance: random.Random) -> Scene:
    """Another thing at the same place, before the same background."""
    thing = scene.things[0]
    while True:
        other = any_scene(chance).things[0]
        if other.colour not in (scene.background, thing.colour) and other.shape != thing.shape:
            return Scene((Thing(other.shape, other.colour, thing.size, thing.place),), scene.background)


def _hole(thing: Thing, side: int, chance: random.Random | None) -> np.ndarray[Any, Any]:
    """(side, side) bool: a square around a thing's place, or now and then anywhere. Without chance just around it."""
    x, y = PLACES[thing.place]
    half = SIZES[thing.size] * (chance.uniform(*CLEARANCE) if chance else CLEARANCE[1])
    if chance and chance.random() < ASTRAY:
        x, y = chance.random(), chance.random()
    left, top, right, bottom = (
        round(min(1.0, max(0.0, edge)) * side) for edge in (x - half, y - half, x + half, y + half)
    )
    mask = np.zeros((side, side), bool)
    mask[top:bottom, left:right] = True
    return mask
