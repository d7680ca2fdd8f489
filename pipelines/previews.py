"""Previews of a job: small pictures of what its trajectories have so far, made while the engine goes on."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress

import torch
from torch import Tensor

from pipelines.catalogue import LatentColours
from pipelines.events import Pixels, Preview, Step

PERIOD_S = 0.5  # at least, between two previews of a job

log = logging.getLogger("fooocus.engine")


class Previews:
    """The previews of one job of `count` pictures. `on_preview` is called on a thread of `makers`.

    On the engine's thread `note` costs a copy of some latents on their device, and waits for nothing: what waits for
    the device, or computes, happens on `makers`. A job whose last preview is still being made gets no other one.
    """

    def __init__(
        self,
        count: int,
        colours: LatentColours,
        makers: Executor,
        on_preview: Callable[[Preview], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._count, self._colours, self._makers, self._on_preview = count, colours, makers, on_preview
        self._clock = clock
        self._progress = Step(0, 0)
        self._latest: dict[int, Tensor] = {}
        self._next_at = 0.0
        self._making: Future[None] | None = None

    def begin(self) -> None:
        """The job begins, maybe anew: what an earlier run of it had is shown no more."""
        self._latest.clear()

    def heard(self, progress: Step) -> None:
        """How far the job is."""
        self._progress = progress

    def note(self, place: int, clean: Tensor) -> None:
        """What picture `place` would be if it ended here: a scaled latent (channels, h, w), which nobody changes."""
        self._latest[place] = clean
        now = self._clock()
        if now < self._next_at or (self._making is not None and not self._making.done()):
            return
        self._next_at = now + PERIOD_S
        nothing = torch.zeros_like(clean)
        latents = torch.stack([self._latest.get(each, nothing) for each in range(self._count)])
        with suppress(RuntimeError):  # the drawer is being closed
            self._making = self._makers.submit(self._make, latents, self._progress)

    def _make(self, latents: Tensor, progress: Step) -> None:
        try:
            self._on_preview(Preview(progress.step, progress.steps, pixels_of(latents, self._colours)))
        except Exception:
            log.exception("a preview was not made")


def pixels_of(latents: Tensor, colours: LatentColours) -> Pixels:
    """(n, h, w, 3) uint8 RGB from scaled latents (n, channels, h, w), linearly: one pixel for 8x8 of the picture.

    What is not a number is black: no integer stands for it.
    """
    rgb = torch.einsum("nchw,rc->nhwr", latents.float().cpu(), torch.tensor(colours.factors))
    shown: Pixels = (rgb + torch.tensor(colours.bias)).nan_to_num().clamp(0, 255).to(torch.uint8).numpy()
    return shown
