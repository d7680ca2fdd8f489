"""Gate 7: with the family's head and patch, a hole shows what the prompt says, and all else stays as it was."""

import copy
import io
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn

from benchmarks.pocket.acceptance.metric import Metric
from benchmarks.pocket.acceptance.prompts import WANTED
from benchmarks.pocket.latents import FACTOR, all_latents, pixels_of
from benchmarks.pocket.reader import TOKENS, Reader
from benchmarks.pocket.sampling import draw_latents
from benchmarks.pocket.world.drawing import Pixels, draw
from benchmarks.pocket.world.exam import accuracy, held_out
from benchmarks.pocket.world.scenes import PLACES, SIZES, Scene, Thing, any_scene
from models.pocket import names
from pipelines.images.paste import paste
from pipelines.weights.family import Family
from pipelines.weights.inpaint import head_feature, patch_changes, read_head

Mask = npt.NDArray[np.uint8]

SIDE = 256
GRAY = 127  # of the pixels in the hole
CLEARANCE = (1.15, 1.6)  # half the side of a hole, in radii of the thing in it
ASTRAY = 0.2  # share of holes that lie anywhere
REACH = 32  # pixels from a hole, within which a picture may change


def fills(family: Family, count: int, steps: int = 30) -> list[Metric]:
    reader = Reader(family.tokenizers[0], family.text_encoders)
    folder = family.catalogue.root / "inpaint"
    head = read_head(folder / names.INPAINT_HEAD)
    unet = copy.deepcopy(family.unet)
    apply_patch(unet, folder / names.INPAINT_PATCH)
    scenes, said = held_out(count)
    with helped(unet, head, count) as holed:
        drawn = draw_in_holes(reader, unet, holed, said, steps)
    masks = [255 * mask.astype(np.uint8) for mask in holed.masks]
    pasted = [paste(*each) for each in zip(drawn, holed.pictures, masks, strict=True)]
    found = accuracy(scenes, pasted)
    changed = [share_changed(*each) for each in zip(pasted, holed.pictures, masks, strict=True)]
    return [
        *(Metric(f"hole: {name}", found[name], wanted) for name, wanted in WANTED.items()),
        Metric(f"share of pixels more than {REACH} px outside that is changed", max(changed), 0.0, below=True),
    ]


@torch.no_grad()
def apply_patch(unet: UNet2DConditionModel, path: Path) -> None:
    """Change the UNet's parameters in place, each rounded once to its dtype. Raises as `patch_changes` does."""
    for name, change in patch_changes(path, unet):
        parameter = unet.get_parameter(name)
        parameter.copy_(parameter.float() + change.to(parameter.device))


def share_changed(picture: Pixels, before: Pixels, mask: Mask) -> float:
    """Share of the pixels further than REACH from the hole, along rows or columns, that differ.

    picture, before: (height, width, 3); `picture` as it comes back from a PNG. Raises ValueError where no pixel is so
    far away.
    """
    near = np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8)
    far = cv2.dilate(mask, near) == 0
    if not far.any():
        raise ValueError(f"no pixel is further than {REACH} from the hole")
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    read = np.asarray(Image.open(file))
    return float((read != before).any(axis=2)[far].mean())


@contextmanager
def told(unet: Any, head: Tensor, holes: Tensor, around: Tensor) -> Iterator[None]:
    """Inside, the UNet knows where to draw. holes: (n, 1, h, w), 1 is to be drawn. around: (n, 4, h, w) latents."""
    feature = head_feature(head, holes, around)
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


def held_out_holes(count: int) -> tuple[list[Pixels], list[Mask]]:
    """Pictures of something other than the held-out captions say, and masks of holes around it."""
    scenes, _ = held_out(count)
    before = [with_another_thing(scene, random.Random(at)) for at, scene in enumerate(scenes)]
    masks = [255 * hole(scene.things[0], SIDE, None).astype(np.uint8) for scene in scenes]
    return [draw(scene, SIDE, SIDE) for scene in before], masks


@contextmanager
def helped(unet: Any, head: Tensor, count: int) -> Iterator[Holed]:
    """Pictures with holes around something other than the held-out captions say; inside, the UNet is told of them."""
    pictures, masks = held_out_holes(count)
    holed = Holed.of(pictures, [mask > 0 for mask in masks], head.device)
    with told(unet, head, holed.holes.repeat(2, 1, 1, 1), holed.around.repeat(2, 1, 1, 1)):
        yield holed


def score(reader: Reader, unet: Any, holed: Holed, steps: int) -> dict[str, float]:
    """The accuracy of held-out captions of what is to be drawn in holes."""
    scenes, said = held_out(len(holed.holes))
    return accuracy(scenes, draw_in_holes(reader, unet, holed, said, steps))


def draw_in_holes(reader: Reader, unet: Any, holed: Holed, said: list[str], steps: int) -> list[Pixels]:
    """The pictures with what was said drawn in their holes. What is around is blended in at each step."""
    chance = torch.Generator().manual_seed(3)

    def outside(x: Tensor, sigma: float) -> Tensor:
        fresh = torch.randn(x.shape, generator=chance).to(x.device)
        return holed.holes * x + (1 - holed.holes) * (holed.whole + sigma * fresh)

    def kept(clean: Tensor) -> Tensor:
        return holed.holes * clean + (1 - holed.holes) * holed.whole

    return list(pixels_of(draw_latents(unet, reader, said, SIDE, steps, TOKENS, before=outside, after=kept)))


def with_another_thing(scene: Scene, chance: random.Random) -> Scene:
    """Another thing at the same place, before the same background."""
    thing = scene.things[0]
    while True:
        other = any_scene(chance).things[0]
        if other.colour not in (scene.background, thing.colour) and other.shape != thing.shape:
            return Scene((Thing(other.shape, other.colour, thing.size, thing.place),), scene.background)


def hole(thing: Thing, side: int, chance: random.Random | None) -> np.ndarray[Any, Any]:
    """(side, side) bool: a square around a thing's place, or now and then anywhere. Without chance just around it."""
    x, y = PLACES[thing.place]
    half = SIZES[thing.size] * (chance.uniform(*CLEARANCE) if chance else CLEARANCE[1])
    if chance and chance.random() < ASTRAY:
        x, y = chance.random(), chance.random()
    return square(x, y, half, side, side)


def square(x: float, y: float, half: float, width: int, height: int) -> np.ndarray[Any, Any]:
    """(height, width) bool: the part of a square that lies in a picture.

    x, y: its middle, in widths and heights. half: of its side, in shorter sides of the picture.
    """
    short = min(width, height)
    (left, right), (top, bottom) = (
        [round(min(1.0, max(0.0, at + sign * half * short / side)) * side) for sign in (-1, 1)]
        for at, side in ((x, width), (y, height))
    )
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return mask
