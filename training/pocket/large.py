"""Teaches the finished UNet pictures of all sizes, and to do without the pooled vector. For a GPU.

What a shape is must at each size be settled in other layers, so large pictures need as many lessons as small ones. All
lie on the GPU, and there the UNet's call is a CUDA graph for each size, and what it learns from it another.
"""

import copy
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmarks.pocket.latents import FACTOR
from benchmarks.pocket.reader import TOKENS
from benchmarks.pocket.sampling import answer, score, size_ids
from benchmarks.pocket.world.captions import caption
from training.pocket.dataset import levels
from training.pocket.frozen_models import FrozenModels, Noised, counts
from training.pocket.pictures import EMPHASIS, EMPHASISED, UNSAID
from training.pocket.run_dir import RunDir
from training.pocket.trainer import Plan, follow

FORMATS: Mapping[int, tuple[tuple[int, int], ...]] = {
    256: ((256, 256),),
    512: ((512, 512),),
    1024: ((1024, 1024), (1024, 1024), (1152, 896), (896, 1152)),
}
"""Widths and heights that a side stands for; one is drawn for each lesson."""
BATCHES: Mapping[int, int] = {256: 320, 512: 112, 1024: 40}
PLAN = Plan(steps=6_000, rate=6e-4, sides=(256, 512, 512, 1024, 1024, 1024), examined=1_000, half=False)
BANDS = ((0.5, 6.0, 14.6), (0.3, 0.7, 6.0), (0.2, 0.03, 0.7))
"""Shares of levels of noise, from the least sigma to the most. Through all but the strongest a large picture shows."""
SNR_CAP = 25.0  # of an error's weight: weak noise counts, for fine grain is what it leaves in a picture
FAR_CAP = 20.0  # and strong noise counts more than for small pictures, as it alone asks for the caption
THINGS = 3.0  # what a pixel of a thing counts for: with 5, where it is unsure, the UNet sees things too gladly
TOLD, COMPLETE = 4, 0.7  # captions of a picture, and the share of them that leave nothing out
UNPOOLED = 0.4  # share of pictures without the pooled vector, so that tokens alone can say everything, a background too
READ_AT_ONCE = 1_000  # captions
FROZEN = ("conv_in", "conv_norm_out", "conv_out")
"""The outermost layers carry the input: a small change of theirs shifts every answer."""
TRIED: Mapping[int, int] = {256: 40, 512: 40, 1024: 24}
TRIED_STEPS = 14

Call = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""eps for x, timesteps, context, pooled vectors and size ids."""


def train(run_dir: RunDir, frozen: FrozenModels) -> None:
    """Leaves `unet.pt` in the run's folder."""
    unet: Any = copy.deepcopy(frozen.unet)
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(not name.startswith(FROZEN))
    desks = {
        size: _Desk.of(frozen, unet, size, BATCHES[side]) for side in set(PLAN.sides) for size in set(FORMATS[side])
    }

    def lesson(chance: random.Random, side: int) -> Tensor:
        return desks[chance.choice(FORMATS[side])].lesson()

    def exam() -> Mapping[str, float]:
        found: dict[str, float] = {}
        for side, count in TRIED.items():
            right = score(unet, frozen.reader, side, count, TRIED_STEPS, TOKENS)
            found |= {f"{name}_{side}": right[name] for name in ("background", "colour", "shape", "place", "heard")}
        return found

    follow(run_dir, unet, PLAN, lesson, exam)
    torch.save(unet.state_dict(), run_dir.folder / "unet.pt")


@dataclass(frozen=True, eq=False)
class _Desk:
    """Where pictures of one size are learned, all on one device.

    latents: (n, 4, h, w). told: contexts and pooled vectors, (n, TOLD, ...). without: those of no caption. batch: how
    many are learned at once, which is what `call` takes.
    """

    latents: Tensor
    told: tuple[Tensor, Tensor]
    without: tuple[Tensor, Tensor]
    call: Call
    batch: int

    @classmethod
    def of(cls, frozen: FrozenModels, unet: Any, size: tuple[int, int], batch: int) -> "_Desk":
        """size: width and height of a picture."""
        drawn = frozen.drawn(*size)
        chance = random.Random(f"said of {size}")
        said = [
            caption(scene, chance, complete=chance.random() < COMPLETE) for scene in drawn.scenes for _ in range(TOLD)
        ]
        pieces = [frozen.told(said[at : at + READ_AT_ONCE]) for at in range(0, len(said), READ_AT_ONCE)]
        context, pooled = (torch.cat([each.half() for each in part]) for part in zip(*pieces, strict=True))
        told = context.view(-1, TOLD, *context.shape[1:]), pooled.view(-1, TOLD, *pooled.shape[1:])
        call = _captured(unet, _example(context, pooled, size, batch))
        return cls(drawn.latents.to(frozen.device), told, frozen.told([""]), call, batch)

    def lesson(self) -> Tensor:
        """By how much guesses are not the truth."""
        device = self.latents.device
        at = torch.randint(len(self.latents), (self.batch,), device=device)
        which = torch.randint(TOLD, (self.batch,), device=device)
        clean, context, pooled = (each.float() for each in (self.latents[at], *(each[at, which] for each in self.told)))
        unsaid = self._some(UNSAID)
        context = torch.where(unsaid[:, None, None], self.without[0], context)
        pooled = torch.where((unsaid | self._some(UNPOOLED))[:, None], self.without[1], pooled)
        noised = Noised.at(clean, *self._levels(), caps=(SNR_CAP, FAR_CAP))
        emphasis = torch.where(self._some(EMPHASISED), torch.empty(self.batch, device=device).uniform_(*EMPHASIS), 1.0)
        eps = self.call(noised.x, noised.timesteps, context, pooled, size_ids(clean, emphasis))
        return noised.loss(eps, counts(clean, THINGS))

    def _some(self, share: float) -> Tensor:
        """(batch,) bool: which of them."""
        return torch.rand(self.batch, device=self.latents.device) < share

    def _levels(self) -> tuple[Tensor, Tensor]:
        """Timesteps (batch,) and their sigmas (batch, 1, 1, 1), in each band spread evenly by their logarithm."""
        shares, least, most = torch.tensor(BANDS, device=self.latents.device).T
        band = torch.multinomial(shares, self.batch, replacement=True)
        return levels(least[band], most[band])


class _Whole(nn.Module):
    """The UNet of tensors alone, as a CUDA graph has it, all in bfloat16: what autocast leaves in float32, norms above
    all, is most of what a GPU reads and writes. Its weights stay float32."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, pooled: Tensor, sizes: Tensor) -> Tensor:
        weights = {name: parameter.bfloat16() for name, parameter in self.unet.named_parameters()}

        def half(*given: Any, **named: Any) -> Any:
            return functional_call(self.unet, weights, given, named)

        return answer(half, x.bfloat16(), timesteps, context.bfloat16(), pooled.bfloat16(), sizes)


def _captured(unet: Any, example: tuple[Tensor, ...]) -> Call:
    """On a GPU the UNet's call, forwards and backwards, as CUDA graphs for what is as large as the example."""
    whole = _Whole(unet)
    if not example[0].is_cuda:
        return whole
    with torch.backends.cudnn.flags(enabled=True, benchmark=True):
        torch.cuda.make_graphed_callables(whole, example)  # from here on it calls its graphs
    return whole


def _example(context: Tensor, pooled: Tensor, size: tuple[int, int], batch: int) -> tuple[Tensor, ...]:
    """What the call is given. context, pooled: of at least one caption."""
    width, height = size
    x = torch.randn(batch, 4, height // FACTOR, width // FACTOR, device=context.device)
    timesteps = torch.full((batch,), 500, device=context.device)
    said = (each[:1].float().repeat(batch, *[1] * (each.ndim - 1)) for each in (context, pooled))
    return x, timesteps, *said, size_ids(x, torch.ones(batch, device=context.device))
