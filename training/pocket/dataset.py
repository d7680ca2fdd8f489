"""What the UNet learns from: drawn scenes as latents of every size, and captions as the text encoders read them."""

import os
import random
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from benchmarks.pocket.latents import all_latents, come_so_far
from benchmarks.pocket.world.drawing import draw
from benchmarks.pocket.world.scenes import Scene, any_scene
from pipelines.denoising.schedules import sdxl_table
from training.pocket.run_dir import RunDir

PICTURES: Mapping[int, int] = MappingProxyType({128: 24_000, 256: 24_000, 512: 24_000, 1024: 8_000})
"""How many are drawn of a format, by the side of a square of about its area."""
AT_ONCE = 250  # that one process draws before it hands them over
FAR, FAR_CAP = 0.3, 6.0  # what strong noise counts for beyond min-SNR's weight, as a share of the error in the picture
THING = 0.1  # how far a latent of a thing is from the background's
FAINT, STRONG = 0.75, 0.7  # share of pictures in noise above that level that are as faint as in a run
OFFSET = 0.1  # share of noise that a whole channel has in common


def noise_like(clean: Tensor) -> Tensor:
    """Noise with a share that each channel has in common: through white noise the background's colour shows."""
    return torch.randn_like(clean) + OFFSET * torch.randn_like(clean[:, :, :1, :1])


def levels(least: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
    """Timesteps (n,) and their sigmas (n, 1, 1, 1), spread evenly by their logarithm between two levels each, (n,)."""
    sigmas = sdxl_table().sigmas.to(least.device)
    wanted = least.log().lerp(most.log(), torch.rand_like(least)).exp()
    timesteps = torch.searchsorted(sigmas, wanted).clamp(max=len(sigmas) - 1)
    return timesteps, sigmas[timesteps][:, None, None, None]


def shown(sigma: Tensor) -> Tensor:
    """How much of a picture there is in noise of these levels: mostly as much as in a run, or a little more or less.

    Through the strongest noise alone a picture shows, and a large one shows well; who learns so looks there for things
    that are not there in a run, and does not listen to the caption.
    """
    about = come_so_far(sigma * (0.8 + 0.4 * torch.rand_like(sigma))).clamp(min=0)
    faint = (sigma > STRONG) & (torch.rand_like(sigma) < FAINT)
    return torch.where(faint, about, 1.0)


def things(clean: Tensor) -> Tensor:
    """(n, h, w) bool: which of (n, 4, h, w) latents are not background, as the outermost mostly are."""
    rim = torch.cat([clean[:, :, 0], clean[:, :, -1], clean[:, :, :, 0], clean[:, :, :, -1]], dim=2)
    return (clean - rim.median(dim=2).values[:, :, None, None]).abs().amax(dim=1) > THING


def weight(sigma: Tensor, snr_cap: float, far_cap: float = FAR_CAP) -> Tensor:
    """Of an error in eps: min-SNR's weight (Hang et al. 2023), and a share of the error that it means in the picture.

    Colours and places are settled under strong noise, where a wrong one is next to no error in eps. Without that share
    captions bind very late. Its cap keeps the unrest of the rate from being most of what the strongest noise teaches.
    """
    near = (sigma**2 * snr_cap).clamp(max=1.0)  # min(SNR, cap) / SNR, and SNR = 1 / sigma^2
    return near + (FAR * sigma**2).clamp(max=far_cap)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Scenes and what the VAE's encoder makes of their pictures: (n, 4, height / 8, width / 8) float16."""

    scenes: list[Scene]
    latents: Tensor

    @classmethod
    def of(cls, run_dir: RunDir, width: int, height: int) -> "Drawn":
        """The same each time. The latents are kept in the run's folder for the next start."""
        chance, count = random.Random(7), PICTURES[square(width, height)]
        scenes = [any_scene(chance) for _ in range(count)]
        kept = run_dir.folder / f"latents_{width}x{height}.pt"
        if not kept.is_file():
            pieces = [_Piece(at, scenes[at : at + AT_ONCE], width, height) for at in range(0, count, AT_ONCE)]
            telling = track(_all_drawn(pieces), f"drawing {width} x {height}", len(pieces), console=run_dir.console)
            aside = kept.with_suffix(f".{os.getpid()}")  # another process may draw the same
            torch.save(torch.from_numpy(np.concatenate(list(telling))), aside)
            aside.replace(kept)
        return cls(scenes, torch.load(kept, weights_only=True, mmap=True))


def square(width: int, height: int) -> int:
    """The side, among those of `PICTURES`, of the square that is nearest in area."""
    return min(PICTURES, key=lambda side: abs(side * side - width * height))


@dataclass(frozen=True)
class _Piece:
    """Scenes that one process draws. begun: the number of the first."""

    begun: int
    scenes: list[Scene]
    width: int
    height: int

    def draw(self) -> np.ndarray[Any, np.dtype[np.float16]]:
        """(n, 4, height / 8, width / 8)."""
        numbered = enumerate(self.scenes, self.begun)
        pictures = (draw(scene, self.width, self.height, random.Random(at), smooth=1) for at, scene in numbered)
        found: np.ndarray[Any, np.dtype[np.float16]] = all_latents(pictures).half().numpy()
        return found


def _all_drawn(pieces: list[_Piece]) -> Iterator[np.ndarray[Any, np.dtype[np.float16]]]:
    """In order, by as many processes as there are processors, where there is work for more than one."""
    workers = min(os.cpu_count() or 1, len(pieces))
    if workers == 1:
        yield from map(_Piece.draw, pieces)
        return
    context = get_context("forkserver")  # which imports this module once, and knows nothing of a GPU
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(workers, context) as pool:
        yield from pool.map(_Piece.draw, pieces)
