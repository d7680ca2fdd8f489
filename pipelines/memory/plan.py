"""The memory plan: what of a family stays on the device, what is brought on demand, how many rows a size may have."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pipelines.errors import WeightsFault
from pipelines.parts import Part

MB, GB = 2**20, 2**30
RESERVE = GB  # an estimate: half for a CUDA context and its libraries' workspaces, half for what the allocator loses
FACTOR = 8  # pixels of a picture to one of its latent
COMMON, LARGER = 1024, (1536, 2048)  # sides of the pictures that a plan is made for, and that it holds if it can
LEAST_ROWS = 2  # a guided pair


@dataclass(frozen=True)
class MemoryPlan:
    """How the memory of a device is used. All in bytes.

    memory: what is planned with. resident: whether the family's own models stay on the device from the start; otherwise
    every part lies in the host's memory and is brought when it is used, and LoRAs are merged there. parts: what models
    may hold on the device at one time, merged ones included. working: set aside for what calls need while they run.
    merged: of `parts`, what merged weights and all other parts may hold where the family is resident.
    row_pixel: what one row of a UNet call needs for each pixel of its latent.
    """

    memory: int
    resident: bool
    parts: int
    working: int
    merged: int
    row_pixel: int

    def rows_at(self, pixels: int) -> int:
        """The most rows of a call at that many pixels of the latent: at least 1."""
        return max(1, self.working // (self.row_pixel * pixels))


@dataclass(frozen=True)
class Footprint:
    """What a family takes on a device, in bytes, each model in the dtype that it is run in.

    unet, text_encoders (both), vae: of the family's own models. row_pixel: what one row of a UNet call needs while it
    runs, for each pixel of its latent, and the VAE for one picture, vae_pixel. optional: of what else the family has
    and is run on the device, beside what it shares with the family's own models.
    """

    family: str
    unet: int
    text_encoders: int
    vae: int
    row_pixel: int
    vae_pixel: int
    optional: Mapping[Part, int] = field(default_factory=dict)

    @property
    def base(self) -> int:
        """The family's own models."""
        return self.unet + self.text_encoders + self.vae

    @property
    def control(self) -> int:
        """The largest control network, beside the UNet that it is made of; 0 for none."""
        return max((self.optional.get(part, 0) for part in ("canny", "cpds")), default=0)

    @property
    def largest(self) -> int:
        """The largest model that is run alone."""
        return max(self.unet, self.text_encoders, self.vae, *self.optional.values())

    @property
    def job(self) -> int:
        """The most that one request holds beside the family's own models, and while it runs keeps, whatever is let go
        of: the UNet with its LoRAs merged in, twice where an inpaint model is in one of them, and each other part."""
        merged = self.unet * (2 if "inpaint_patch" in self.optional else 1)
        return merged + sum(size for part, size in self.optional.items() if part != "inpaint_patch")

    def working(self, side: int, rows: int) -> int:
        """What the VAE needs for a picture of side x side, or a call of `rows` rows at 1024 x 1024 if that is more."""
        return max(self.vae_pixel * latent_pixels(side), rows * self.row_pixel * latent_pixels(COMMON))


def latent_pixels(side: int) -> int:
    """Of a square picture, by its side in pixels."""
    return (side // FACTOR) ** 2


def plan_memory(footprint: Footprint, memory: int, rows: int, merged: int | None = None) -> MemoryPlan:
    """What to do with `memory` bytes of a device. rows: the most of a call. merged: the most that merged weights and
    control networks may hold where the family is resident; None for all that is left.

    Set aside is what the VAE and two rows need at 1024 x 1024, and by steps, up to `rows` rows and then to the VAE's
    need at 2048 x 2048, more: as long as the family's own models still lie on the device together. They are resident
    where all that one request may ask for fits beside them. More memory never gives fewer rows, smaller pictures, or a
    family that is not resident any more.

    Raises WeightsFault, with the figures, where not even the largest model alone can be run.
    """
    room = memory - RESERVE
    resident = footprint.base + footprint.job
    least, *steps = _steps(footprint, rows)
    if footprint.largest + least > room:
        raise WeightsFault(_refusal(footprint, memory, least))
    working, needed, stays = least, footprint.largest + least, False
    for step in steps:
        needed = max(needed, footprint.base + step)
        stays = stays or needed > resident + working  # with less set aside it would be resident before
        if stays:
            needed = resident + step
        if needed > room:
            break
        working = step
    parts = room - working
    if resident + working > room:
        return MemoryPlan(memory, False, parts, working, 0, footprint.row_pixel)
    left = parts - footprint.base - footprint.optional.get("upscaler", 0)  # which stays once it is there
    return MemoryPlan(memory, True, parts, working, left if merged is None else min(left, merged), footprint.row_pixel)


def _steps(footprint: Footprint, rows: int) -> Iterator[int]:
    """What may be set aside, ever more."""
    fewer = [rows]
    while fewer[-1] // 2 >= LEAST_ROWS:
        fewer.append(fewer[-1] // 2)
    yield footprint.working(COMMON, LEAST_ROWS)
    for each in reversed(fewer):
        yield footprint.working(COMMON, each)
    for side in LARGER:
        yield footprint.working(side, rows)


def _refusal(footprint: Footprint, memory: int, least: int) -> str:
    needed = footprint.largest + least + RESERVE
    return (
        f"The family {footprint.family} needs at least {in_gb(needed)} of the device's memory "
        f"({in_gb(footprint.largest)} for its largest model, {in_gb(least)} while it draws {COMMON} x {COMMON}, "
        f"{in_gb(RESERVE)} in reserve), and there are {in_gb(memory)}: "
        "take float16 or bfloat16 for `dtype` if it is float32, or a device with more memory."
    )


def in_gb(size: int) -> str:
    """For people: in GB of 2**30 bytes, rounded to a tenth, and what is less than that in MB."""
    return f"{size / GB:.1f} GB" if size >= GB / 10 else f"{math.ceil(size / MB)} MB"
