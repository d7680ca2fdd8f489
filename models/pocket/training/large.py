"""Teaches the UNet large pictures, by what the UNet for small ones sees in the same pictures made small.

A large picture shows through the strongest white noise, for an average over many latents leaves little of it. A UNet
that learns so looks for things in what it is given and not in the caption, and finds some in noise alone. So here
pictures are as faint under strong noise as a run has them, and the teacher sees them small, through as much noise as
there is in a small picture. Which shape a word means is learned last. So each picture shows something between two
shapes and comes with a caption for each, and by how much the guesses for the two differ counts by itself.
"""

import copy
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from models.pocket.training.course import Plan, follow
from models.pocket.training.crew import Crew
from models.pocket.training.lessons import OFFSET, all_latents, noise_like, weight
from models.pocket.training.pictures import EMPHASIS, EMPHASISED, UNSAID
from models.pocket.training.school import SMALL, SNR_CAP, TOKENS, School, counts
from models.pocket.training.session import Session
from models.pocket.training.trial import predict, score
from models.pocket.world.captions import caption
from models.pocket.world.drawing import draw
from models.pocket.world.scenes import SHAPES, Scene, any_scene
from pipelines.denoising.schedules import sdxl_table

BATCHES: Mapping[int, int] = {256: 32, 512: 16, 1024: 8}
PLAN = Plan(steps=6_000, rate=3e-4, sides=(256, 256, 512, 512, 1024), examined=500)
STRONG, WEAK = (0.7, 14.6), (0.1, 1.0)  # in strong noise the teacher says what is there, in weak noise it can be seen
HARD = 0.65  # share of lessons in strong noise
FAINT = 0.7  # share of those where a picture is as faint as in a run, which begins with noise alone
BETWEEN = 0.7  # how far at most what is shown is from the first caption's shape towards the second's
WORD = 5.0  # what an error in the difference that a word makes counts for
COMPLETE = 0.7  # share of captions that leave nothing out
UNPOOLED = 0.4
FROZEN = ("conv_in", "down_blocks.0", "conv_norm_out", "conv_out")
"""The outermost layers carry the input, where a small change shifts every answer. The first block, which costs
the most, finds edges and noise, which are the same at every size."""
TRIED: Mapping[int, int] = {256: 24, 512: 16, 1024: 8}
TRIED_STEPS = 12


def train(session: Session, school: School, crew: Crew) -> None:
    """Leaves `unet.pt` in the session's folder."""
    unet: Any = copy.deepcopy(school.unet)
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(not name.startswith(FROZEN))

    def lesson(chance: random.Random, side: int) -> Tensor:
        return _lesson(school, unet, chance, side, crew.share(BATCHES[side]))

    def exam() -> Mapping[str, float]:
        found: dict[str, float] = {}
        for side, count in TRIED.items():
            right = score(unet, school.reader, side, count, TRIED_STEPS, TOKENS)
            found |= {f"{name}_{side}": right[name] for name in ("background", "colour", "shape", "place", "heard")}
        return found

    follow(session, unet, PLAN, lesson, exam, crew)
    if crew.leads:
        torch.save(unet.state_dict(), session.folder / "unet.pt")


def _lesson(school: School, unet: Any, chance: random.Random, side: int, batch: int) -> Tensor:
    """The loss of one batch."""
    lesson = _strong if chance.random() < HARD else _weak
    return lesson(school, unet, chance, side, batch)


def _strong(school: School, unet: Any, chance: random.Random, side: int, batch: int) -> Tensor:
    """By how much guesses of two captions, and what they differ in, are not the teacher's."""
    scenes = [any_scene(chance) for _ in range(max(1, batch // 2))]
    others = [_reshaped(scene, chance) for scene in scenes]
    seeds = [chance.random() for _ in scenes]
    saying = _Saying.of(school, [*scenes, *others], [*seeds, *seeds])
    one, other = (_latents(each, seeds, side).to(school.device) for each in (scenes, others))
    clean = one.lerp(other, torch.rand(len(scenes), 1, 1, 1, device=school.device) * BETWEEN)
    sigma = _levels(STRONG, len(scenes), school.device)
    faint = chance.random() < FAINT
    shown = _faint(sigma) if faint else torch.ones_like(sigma)
    noise, common = torch.randn_like(clean), OFFSET * torch.randn_like(clean[:, :, :1, :1])
    times = side // SMALL
    # the teacher sees as much noise as a small picture has, or where it is not faint as little as can be seen
    level = sigma if faint else sigma / times
    small = shown * nn.functional.avg_pool2d(clean, times) + sigma * common
    small = small + level * times * nn.functional.avg_pool2d(noise, times)
    x = shown * clean + sigma * (noise + common)
    x, sigma, small, level, clean = (torch.cat([each, each]) for each in (x, sigma, small, level, clean))
    with torch.no_grad():
        taught = small - level * _answer(school.unet, small, level, saying.context, saying.pooled)
        if times > 1:
            taught = nn.functional.interpolate(taught, scale_factor=float(times), mode="bilinear")
    error = _answer(unet, x, sigma, saying.context, saying.heard, saying.emphasis) - (x - taught) / sigma
    between = torch.sub(*error.chunk(2)).square() / 2
    counted = error.square() * counts(clean) + WORD * torch.cat([between, between])
    return _weighed(counted, sigma)


def _weak(school: School, unet: Any, chance: random.Random, side: int, batch: int) -> Tensor:
    """By how much guesses are not the truth, or of small pictures not the teacher's."""
    scenes = [any_scene(chance) for _ in range(batch)]
    seeds = [chance.random() for _ in scenes]
    saying = _Saying.of(school, scenes, seeds)
    clean = _latents(scenes, seeds, side).to(school.device)
    sigma = _levels(WEAK, batch, school.device)
    x = _blurred(clean, side // SMALL, sigma) + sigma * noise_like(clean)
    wanted = clean
    if side == SMALL:
        with torch.no_grad():
            wanted = x - sigma * _answer(school.unet, x, sigma, saying.context, saying.pooled)
    error = _answer(unet, x, sigma, saying.context, saying.heard, saying.emphasis) - (x - wanted) / sigma
    return _weighed(error.square() * counts(clean), sigma)


@dataclass(frozen=True, eq=False)
class _Saying:
    """Captions as the UNet is told them.

    heard: the pooled vectors, some of them kept back. emphasis: as `predict` takes it.
    """

    context: Tensor
    pooled: Tensor
    heard: Tensor
    emphasis: Tensor

    @classmethod
    def of(cls, school: School, scenes: list[Scene], seeds: list[float]) -> "_Saying":
        """Scenes with the same seed are told in the same way."""
        chances = [random.Random(seed) for seed in seeds]
        kept_back = torch.tensor([chance.random() < UNPOOLED for chance in chances], device=school.device)
        emphasis = torch.tensor(
            [chance.uniform(*EMPHASIS) if chance.random() < EMPHASISED else 1.0 for chance in chances]
        )
        said = [
            "" if chance.random() < UNSAID else caption(scene, chance, complete=chance.random() < COMPLETE)
            for scene, chance in zip(scenes, chances, strict=True)
        ]
        context, pooled = school.told(said)
        heard = torch.where(kept_back[:, None], school.told([""])[1], pooled)
        return cls(context, pooled, heard, emphasis.to(school.device))


def _reshaped(scene: Scene, chance: random.Random) -> Scene:
    """The same with another shape."""
    thing, *more = scene.things
    shape = chance.choice([shape for shape in SHAPES if shape != thing.shape])
    return Scene((replace(thing, shape=shape), *more), scene.background)


def _latents(scenes: list[Scene], seeds: list[float], side: int) -> Tensor:
    """(n, 4, side / 8, side / 8)."""
    pairs = zip(scenes, seeds, strict=True)
    return all_latents(draw(scene, side, side, random.Random(seed), smooth=1) for scene, seed in pairs)


def _weighed(errors: Tensor, sigma: Tensor) -> Tensor:
    """The mean of errors (n, 4, h, w) in eps."""
    return (errors * weight(sigma, SNR_CAP)).mean()


def _levels(between: tuple[float, float], count: int, device: torch.device) -> Tensor:
    """Sigmas (n, 1, 1, 1), spread evenly by their logarithm."""
    least, most = (torch.tensor(level, device=device).log() for level in between)
    return (least + (most - least) * torch.rand(count, 1, 1, 1, device=device)).exp()


def _faint(sigma: Tensor) -> Tensor:
    """How much of a picture there is at a level of a run, and a little more or less."""
    gone = sigma / sdxl_table().sigma_max
    return (1 - gone * (0.8 + 0.4 * torch.rand_like(sigma))).clamp(min=0, max=1)


def _blurred(clean: Tensor, times: int, sigma: Tensor) -> Tensor:
    """A picture as strong noise leaves it: the stronger, the more it is like a small one made large."""
    if times == 1:
        return clean
    small = nn.functional.avg_pool2d(clean, times)
    large = nn.functional.interpolate(small, scale_factor=float(times), mode="bilinear")
    share = torch.rand_like(sigma) * (sigma / WEAK[1])
    return clean.lerp(large, share)


def _answer(
    unet: Any, x: Tensor, sigma: Tensor, context: Tensor, pooled: Tensor, emphasis: Tensor | None = None
) -> Tensor:
    """eps (n, 4, h, w) float32. sigma: (n, 1, 1, 1)."""
    table = sdxl_table()
    at = torch.tensor([table.timestep(float(level)) for level in sigma.flatten()], device=x.device)
    return predict(unet, x / (1 + sigma**2).sqrt(), at, context, pooled, emphasis).float()
