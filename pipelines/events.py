"""What a running job tells its caller (steps, previews if it wants them, at the end the pictures), and its engine."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.progress import Note as Note
from pipelines.progress import Step as Step
from pipelines.prompts.assembly import Texts

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """How the pictures look after `step` of `steps`. pixels: (n, height / 8, width / 8, 3) uint8 RGB, one a picture;
    middle grey where a picture has not begun.
    """

    step: int
    steps: int
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class Drawn:
    """The last event of a job. images: (n, height, width, 3) uint8 RGB. timings: seconds by stage, to the launch where
    the host runs ahead of its device; under `wait` those in which it could have gone on, but others were drawn."""

    images: Pixels
    timings: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Complete:
    """All pictures of a job are drawn; their pixels follow apart from this. timings: as in `Drawn`."""

    pictures: int
    timings: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Words:
    """What each picture of a job is drawn from, in the order of its seeds."""

    texts: tuple[Texts, ...]


Event = Step | Preview | Drawn | Note


@dataclass(frozen=True, slots=True)
class EngineStats:
    """An engine's counts since its start. unet_rows / unet_calls is the mean number of rows per step.

    retried: asks that were tried again after a call had failed, and jobs begun again. lowered: sizes whose row cap was
    found too large. parts_brought: how often a model was brought to a device that does not hold all of them.
    bytes_brought: what was copied for that. unet_row_steps: as unet_rows, in rows of 1024 x 1024 pixels. busy_s: of all
    turns that called anything, the UNet or other, and unet_seconds of the UNet's. prompt_tokens: of all rows of UNet
    calls, and padding_tokens of these what only fills up. bases_found, bases_built: how often a request's base was at
    hand, and was not; adapters_found and adapters_built likewise LoRAs of rows.
    """

    unet_calls: int
    unet_rows: int
    largest_call: int
    live_jobs: int
    retried: int = 0
    lowered: int = 0
    parts_brought: int = 0
    bytes_brought: int = 0
    unet_row_steps: float = 0.0
    busy_s: float = 0.0
    unet_seconds: float = 0.0
    prompt_tokens: int = 0
    padding_tokens: int = 0
    bases_found: int = 0
    bases_built: int = 0
    adapters_found: int = 0
    adapters_built: int = 0
